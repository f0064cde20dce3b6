# One static program, as one of Knative's images.
FROM scratch
COPY main /main
USER 65532
ENTRYPOINT ["/main"]
