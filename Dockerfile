# CPU by default; for a GPU: docker build --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu130 .
FROM python:3.11-slim

ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PIP_NO_CACHE_DIR=1 \
    ETP_STORE=/data/etp.sqlite ETP_CACHE=/opt/etp \
    NUMBA_CACHE_DIR=/tmp/numba TRITON_CACHE_DIR=/tmp/triton TORCHINDUCTOR_CACHE_DIR=/tmp/inductor

# The compiler stays: a processor other than the one that built this image gets kernels of its own.
RUN apt-get update \
    && apt-get install -y --no-install-recommends g++ libc6-dev \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 1000 --no-create-home --home-dir /nonexistent etp \
    && install -d -o etp /data
WORKDIR /app
COPY requirements.txt .
RUN pip install --index-url "$TORCH_INDEX" "torch==$(sed -n 's/^torch==//p' requirements.txt)" \
    && pip install -r requirements.txt
# The code and the kernels belong to root: the app cannot change what it runs.
COPY . .
RUN python -m compileall -q etp pages app.py \
    && python -m etp build-kernels
USER etp
VOLUME /data
EXPOSE 8501
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s CMD ["python", "-c", \
     "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8501/health')"]
# Every address, so that a port can be published. Visitors then only look, unless ETP_ACCESS or
# /app/etp.toml says who may run: docs/hosting.md.
CMD ["streamlit", "run", "app.py", "--server.port=8501", "--server.address=0.0.0.0", \
     "--server.fileWatcherType=none", "--server.headless=true"]
