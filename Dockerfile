# The server as an image with nothing in it but the server: no shell, no package, no root.
#
#   docker build -t sallyport --build-arg VERSION=$(git describe --tags --always) .
#   docker run --rm -v sallyport-etc:/etc/sallyport -v sallyport-data:/var/lib/sallyport sallyport init
#   docker run -d -p 2222:2222 -v sallyport-etc:/etc/sallyport -v sallyport-data:/var/lib/sallyport sallyport

FROM node:20-bookworm-slim AS assets
WORKDIR /src
COPY package.json package-lock.json .npmrc ./
COPY scripts/assets.sh scripts/
COPY admin/static/vendor/README admin/static/vendor/
RUN scripts/assets.sh

FROM golang:1.26-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
COPY --from=assets /src/admin/static/vendor/ admin/static/vendor/
ARG VERSION=development
ENV CGO_ENABLED=0
RUN go run ./hack/patchssh && go build -modfile=build/go.mod -trimpath -ldflags "-s -w -X main.version=${VERSION}" -o /out/usr/bin/sallyport ./cmd/sallyport
# What a program expects to find, and folders that the server may write.
RUN mkdir -p /out/etc/ssl/certs /out/etc/sallyport /out/var/lib/sallyport /out/tmp \
	&& cp /etc/ssl/certs/ca-certificates.crt /out/etc/ssl/certs/ \
	&& echo 'sallyport:x:65532:65532::/var/lib/sallyport:/nonexistent' >/out/etc/passwd \
	&& echo 'sallyport:x:65532:' >/out/etc/group \
	&& chown -R 65532:65532 /out/etc/sallyport /out/var/lib/sallyport \
	&& chmod 700 /out/etc/sallyport /out/var/lib/sallyport \
	&& chmod 1777 /out/tmp

FROM scratch
COPY --from=build /out/ /
USER 65532:65532
VOLUME ["/etc/sallyport", "/var/lib/sallyport"]
EXPOSE 2222
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/bin/sallyport"]
CMD ["serve"]
