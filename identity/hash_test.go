package identity

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
)

func TestHashPassword(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	phc, err := HashPassword(ctx, "correct horse")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(phc, "$argon2id$v=19$m=19456,t=2,p=1$") {
		t.Errorf("hash %s", phc)
	}
	again, err := HashPassword(ctx, "correct horse")
	if err != nil || again == phc {
		t.Errorf("hashing twice: %s, %v: want another salt", again, err)
	}
	for p, want := range map[Password]bool{"correct horse": true, "correct horsf": false, "correct horse ": false, "": false} {
		if got, err := VerifyPassword(ctx, phc, p); got != want || err != nil {
			t.Errorf("VerifyPassword(%q) = %v, %v; want %v", string(p), got, err, want)
		}
	}
}

// TestVerifyPasswordVectors checks hashes of the reference implementation (phc-winner-argon2, test.c).
func TestVerifyPasswordVectors(t *testing.T) {
	t.Parallel()
	for _, phc := range []string{
		"$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
		"$argon2id$v=19$m=256,t=2,p=2$c29tZXNhbHQ$bQk8UB/VmZZF4Oo79iDXuL5/0ttZwg2f/5U52iv1cDc",
	} {
		if ok, err := VerifyPassword(t.Context(), phc, "password"); !ok || err != nil {
			t.Errorf("VerifyPassword(%s) = %v, %v", phc, ok, err)
		}
	}
}

func TestVerifyPasswordRefusesForeignHashes(t *testing.T) {
	t.Parallel()
	const salt, key = "c29tZXNhbHQ", "CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc"
	for _, phc := range []string{
		"",
		"plain",
		"$argon2i$v=19$m=65536,t=2,p=1$" + salt + "$" + key,
		"$argon2id$v=16$m=65536,t=2,p=1$" + salt + "$" + key,
		"$argon2id$m=65536,t=2,p=1$" + salt + "$" + key,
		"$argon2id$v=19$m=4194304,t=2,p=1$" + salt + "$" + key, // 4 GiB
		"$argon2id$v=19$m=65536,t=1000,p=1$" + salt + "$" + key,
		"$argon2id$v=19$m=65536,t=0,p=1$" + salt + "$" + key,
		"$argon2id$v=19$m=65536,t=2,p=0$" + salt + "$" + key,
		"$argon2id$v=19$m=65536,t=2,p=255$" + salt + "$" + key,
		"$argon2id$v=19$m=65536,t=2,p=1,x=1$" + salt + "$" + key,
		"$argon2id$v=19$m=+65536,t=2,p=1$" + salt + "$" + key,
		"$argon2id$v=19$m=65536,t=2,p=1$$" + key,
		"$argon2id$v=19$m=65536,t=2,p=1$" + salt + "$",
		"$argon2id$v=19$m=65536,t=2,p=1$" + salt + "$" + key + "=",
		"$argon2id$v=19$m=65536,t=2,p=1$" + salt + "$" + key + "$",
		"$argon2id$v=19$m=65536,t=2,p=1$" + salt + "$AAAA",
		"$2b$12$abcdefghijklmnopqrstuv",
	} {
		if ok, err := VerifyPassword(t.Context(), phc, "password"); ok || err == nil {
			t.Errorf("VerifyPassword(%q) = %v, %v; want an error", phc, ok, err)
		}
	}
}

func TestHashPasswordRefusesUnusable(t *testing.T) {
	t.Parallel()
	for name, p := range unusablePasswords {
		if phc, err := HashPassword(t.Context(), p); err == nil {
			t.Errorf("%s: HashPassword = %q, want an error", name, phc)
		}
	}
}

func TestVerifyDummy(t *testing.T) {
	t.Parallel()
	if err := VerifyDummy(t.Context(), "anything"); err != nil {
		t.Errorf("VerifyDummy = %v", err)
	}
	if got := dummyHash().cost; got != defaultCost {
		t.Errorf("the dummy costs %+v, a real hash %+v", got, defaultCost)
	}
}

// TestHashingQueue fills all turns; it must not run beside other tests.
func TestHashingQueue(t *testing.T) {
	for range cap(hashing) {
		hashing <- struct{}{}
	}
	defer func() {
		for range cap(hashing) {
			<-hashing
		}
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := VerifyDummy(ctx, "anything"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("VerifyDummy behind a full queue = %v, want deadline exceeded", err)
	}
	if _, err := HashPassword(ctx, "anything"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("HashPassword behind a full queue = %v, want deadline exceeded", err)
	}
}

func BenchmarkVerifyPassword(b *testing.B) {
	phc, err := HashPassword(b.Context(), "correct horse")
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if ok, err := VerifyPassword(b.Context(), phc, "correct horse"); !ok || err != nil {
			b.Fatal(ok, err)
		}
	}
}
