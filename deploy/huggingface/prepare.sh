#!/usr/bin/env bash
# Write what a Hugging Face Space of the Docker kind needs to a folder:
#   deploy/huggingface/prepare.sh space && hf upload OWNER/SPACE space . --repo-type=space
set -euo pipefail
out="${1:?name the folder to write}"
mkdir -p "$out"
out="$(cd "$out" && pwd)"
cd "$(dirname "$0")/../.."
cp -R Dockerfile .dockerignore requirements.txt app.py pages etp .streamlit "$out"
find "$out" -name __pycache__ -prune -exec rm -r {} +
cp deploy/demo.toml "$out/etp.toml"
cat deploy/huggingface/front_matter.md README.md | grep -v '^!\[' > "$out/README.md"
echo "$out"
