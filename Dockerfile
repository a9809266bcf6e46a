# Hilum as a container: plain pip's torch, which brings its own CUDA libraries, on a slim Python. The README has the run line.
FROM python:3.11-slim

# bitsandbytes needs libgomp on a CPU.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgomp1 \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /app
COPY requirements.txt .
ARG PIP_ARGS=""
RUN pip install --no-cache-dir ${PIP_ARGS} --requirement requirements.txt

COPY LICENSE app.py ./
COPY chat chat
COPY vision vision
COPY models models

# The root may be read-only: whatever a library wants to write goes to /tmp, a tmpfs that ends with the container.
ENV HOME=/tmp \
    XDG_CACHE_HOME=/tmp/cache \
    HF_HOME=/tmp/huggingface \
    TORCHINDUCTOR_CACHE_DIR=/tmp/inductor \
    TRITON_CACHE_DIR=/tmp/triton \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HF_HUB_OFFLINE=1 \
    GRADIO_ANALYTICS_ENABLED=False \
    HILUM_CONTAINER=1

RUN useradd --system --uid 10001 --no-create-home --home-dir /tmp hilum
USER hilum

EXPOSE 7860
HEALTHCHECK --interval=30s --timeout=5s --start-period=180s --retries=3 CMD ["python", "-c", "from urllib.request import ProxyHandler, build_opener; build_opener(ProxyHandler({})).open('http://127.0.0.1:7860/', timeout=4).close()"]
CMD ["python", "app.py", "serve", "--host", "0.0.0.0", "--port", "7860"]
