# A trainer that keeps the contract and learns nothing: what a test of the cluster needs.
ARG BASE
FROM ${BASE}
COPY *.py /app/
WORKDIR /app
USER 10001
CMD ["python", "stub.py"]
