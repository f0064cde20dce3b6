ARG BASE
FROM ${BASE}
COPY envoy /usr/local/bin/envoy
USER 65532
ENTRYPOINT ["/usr/local/bin/envoy"]
