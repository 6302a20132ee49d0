#!/usr/bin/env bash
# A GPU of a Slurm cluster as a device of the dashboard, for as long as this job lasts:
#   sbatch --export=ALL,ETP_SCHEDULER=tls://head:8786,ETP_CERTIFICATES=$HOME/certificates \
#       deploy/workers/slurm.sh
# The node is taken whole, so that nobody else's work disturbs a measurement.
#SBATCH --job-name=etp-worker
#SBATCH --nodes=1
#SBATCH --exclusive
#SBATCH --gpus=1
#SBATCH --time=08:00:00
#SBATCH --signal=TERM@60
set -euo pipefail
: "${ETP_SCHEDULER:?set it to the address of the scheduler, tls://HOST:8786}"
: "${ETP_CERTIFICATES:?set it to the folder that etp certificates wrote}"
cd "${SLURM_SUBMIT_DIR:-.}"
export DASK_CONFIG="${DASK_CONFIG:-$PWD/deploy/workers/dask.yaml}"
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
device="${ETP_DEVICE:-cuda:0}"
threads="${SLURM_CPUS_ON_NODE:-$(nproc)}"
export OMP_NUM_THREADS="$threads" MKL_NUM_THREADS="$threads" NUMBA_NUM_THREADS="$threads"
exec python -m distributed.cli.dask_worker "$ETP_SCHEDULER" --protocol=tls \
    --tls-ca-file="$ETP_CERTIFICATES/ca.pem" \
    --tls-cert="$ETP_CERTIFICATES/worker-cert.pem" \
    --tls-key="$ETP_CERTIFICATES/worker-key.pem" \
    --nthreads=1 --memory-limit=0 --no-dashboard \
    --resources="$device=1" --name="$device-${SLURM_JOB_ID:-$(hostname)}"
