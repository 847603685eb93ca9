# Everything sets itself up. `make demo` and `make test` are all one has to know.

GO        ?= go
VERSION   ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo development)
LDFLAGS   := -s -w -X main.version=$(VERSION)
PATCHED   := -modfile=build/go.mod
# One of the library's tests writes from a slice that claims to be 4 GiB long. Once the window is used up, the slice begins
# behind its memory, and a collection at that moment ends the program, with the library as it is published too.
SSHTESTS  := GODEBUG=invalidptr=0
# Most tests wait for other programs most of the time, so that more of them at once than there are cores end sooner.
PARALLEL  ?= 5
export CGO_ENABLED ?= 0

.PHONY: demo build patched assets test test-long check bench deps deb clean

demo: build ## a running bastion on loopback, with users and targets, that says what to type
	bin/sallyport demo $(ARGS)

build: assets patched ## bin/sallyport, static
	$(GO) build $(PATCHED) -trimpath -ldflags '$(LDFLAGS)' -o bin/sallyport ./cmd/sallyport

patched: ## build/: Go's SSH library with the edits of hack/patchssh; without it all is right and slower
	$(GO) run ./hack/patchssh

assets: ## scripts of the web pages, from npm by lock file; without Node the pages say how
	@scripts/assets.sh

deps: ## what the tests need of Debian
	@scripts/deps.sh

test: deps assets patched ## all tests; those that the edited library concerns without it and with it
	$(GO) vet ./...
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { echo "not gofmt'ed:"; gofmt -l $$(git ls-files '*.go'); exit 1; }
	$(GO) test -shuffle=on -parallel $(PARALLEL) -timeout 20m ./...
	$(SSHTESTS) $(GO) test $(PATCHED) -shuffle=on -timeout 20m golang.org/x/crypto/ssh
	$(GO) test $(PATCHED) -shuffle=on -parallel $(PARALLEL) -timeout 20m ./session ./bastion ./cmd/sallyport

test-long: deps assets patched ## the same with the long forms of what is sampled above, and the race detector
	SALLYPORT_LONG=1 CGO_ENABLED=1 $(GO) test -race -shuffle=on -timeout 120m ./...
	$(SSHTESTS) CGO_ENABLED=1 $(GO) test $(PATCHED) -race -shuffle=on -timeout 120m golang.org/x/crypto/ssh
	SALLYPORT_LONG=1 CGO_ENABLED=1 $(GO) test $(PATCHED) -race -shuffle=on -timeout 120m ./session ./bastion ./cmd/sallyport

check: ## what can be said without running anything
	$(GO) vet ./...
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))"
	$(GO) mod verify

bench: deps build ## side by side with OpenSSH; JSON to $$BENCH_JSON if set
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/sallyport-stock ./cmd/sallyport
	$(GO) run ./bench -sallyport bin/sallyport -stock bin/sallyport-stock

deb: build ## dist/sallyport_*.deb
	@mkdir -p dist
	VERSION=$$(echo $(VERSION) | sed 's/^v//; s/^[^0-9]/0.0.0~&/') ARCH=$$($(GO) env GOARCH) $(GO) run github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.45.0 package --config packaging/nfpm.yaml --packager deb --target dist/

clean:
	rm -rf bin build dist
