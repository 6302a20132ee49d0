# CPU by default; for a GPU: docker build --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu130 .
FROM python:3.11-slim

ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 ETP_STORE=/data/etp.sqlite

RUN apt-get update \
    && apt-get install -y --no-install-recommends git g++ libc6-dev \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home etp \
    && install -d -o etp /data
WORKDIR /app
COPY requirements.txt .
RUN pip install --index-url "$TORCH_INDEX" "torch==$(sed -n 's/^torch==//p' requirements.txt)" \
    && pip install -r requirements.txt
COPY --chown=etp . .
USER etp
VOLUME /data
EXPOSE 8501
# The health page answers 200 even where sessions are refused: only its body tells.
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s CMD python -c \
    "import sys, urllib.request as u; sys.exit(u.urlopen('http://127.0.0.1:8501/_stcore/health').read() != b'ok')"
CMD ["streamlit", "run", "app.py", "--server.port=8501", "--server.address=0.0.0.0", \
     "--server.fileWatcherType=none", "--server.headless=true"]
