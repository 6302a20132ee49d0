#!/usr/bin/env bash
# Make this checkout what Streamlit Community Cloud needs: do it on a branch of its own, commit,
# push, and name that branch and app.py when the app is made.
#   git switch -c cloud && deploy/streamlit-cloud/prepare.sh && git add -A && git commit -m cloud
# It installs packages.txt with apt and requirements.txt with pip, here with PyTorch for the CPU.
set -euo pipefail
cd "$(dirname "$0")/../.."
cp deploy/streamlit-cloud/packages.txt packages.txt
cp deploy/demo.toml etp.toml
sed -i -e 's/^torch==\([0-9.]*\)$/torch==\1+cpu/' \
    -e '1i --extra-index-url https://download.pytorch.org/whl/cpu' requirements.txt
sed -i 's/^address = .*/address = "0.0.0.0"/' .streamlit/config.toml
