# A trainer that keeps the contract and learns nothing, or ends as its hyperparameters say: what a test of the cluster needs.
ARG BASE
FROM ${BASE}
COPY *.py /app/
WORKDIR /tmp
USER 10001
CMD ["python", "/app/ill.py"]
