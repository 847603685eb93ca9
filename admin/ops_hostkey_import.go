package admin

import (
	"context"
	"crypto/hmac"
	"crypto/sha1" // the form of hashed names in known_hosts; nothing rests on its strength
	"encoding/base64"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"sallyport/audit"
	"sallyport/store"
)

// What may become of a line of known_hosts.
const (
	importPinned  = "pinned"
	importKnown   = "known"
	importWaiting = "waiting"
	importCA      = "ca"
	importRevoked = "revoked"
	importUnused  = "unused"
	importInvalid = "invalid"
)

// importHostKeys takes lines of known_hosts (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT) for the targets that
// there are, and reports on each line.
func (s *Server) importHostKeys(ctx context.Context, by Caller, text string) ([]ImportedKey, error) {
	targets, err := s.cfg.Store.Targets.List(ctx)
	if err != nil {
		return nil, err
	}
	report := []ImportedKey{}
	n := 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		marker, hosts, key, _, _, err := ssh.ParseKnownHosts([]byte(line))
		if err != nil || key.Type() == ssh.InsecureKeyAlgoDSA {
			report = append(report, ImportedKey{Line: n, Result: importInvalid, Detail: "not a line of known_hosts with a key that is safe"})
			continue
		}
		if _, isCert := key.(*ssh.Certificate); isCert || !slices.Contains([]string{"", "cert-authority", "revoked"}, marker) {
			report = append(report, ImportedKey{Line: n, Result: importInvalid, Detail: "the marker or the kind of key is not known"})
			continue
		}
		found, err := s.importLine(ctx, by, targets, marker, hosts, key)
		if err != nil {
			return nil, err
		}
		for i := range found {
			found[i].Line, found[i].Fingerprint = n, ssh.FingerprintSHA256(key)
		}
		report = append(report, found...)
	}
	return report, nil
}

// importLine takes one line for each target that it speaks of.
func (s *Server) importLine(ctx context.Context, by Caller, targets []store.Target, marker string, hosts []string, key ssh.PublicKey) ([]ImportedKey, error) {
	var report []ImportedKey
	for _, t := range targets {
		if !matchesKnownHost(hosts, t.Address) {
			continue
		}
		var r ImportedKey
		after, err := s.cfg.Store.Targets.Change(ctx, t.Name, func(t *store.Target) (store.CredentialSecret, error) {
			r = importKey(t, marker, keyLine(key))
			return nil, nil
		})
		if err != nil {
			return nil, err
		}
		r.Target = t.Name
		switch r.Result {
		case importWaiting:
			err = s.cfg.Store.HostKeys.Wait(ctx, t.ID, keyLine(key), t.Address)
		case importPinned, importCA, importRevoked:
			s.changed(ctx, by, "hostkey.import", audit.Event{Target: t.Name, Detail: map[string]string{
				"result": r.Result, "fingerprint": ssh.FingerprintSHA256(key), "host-key-mode": after.HostKeyMode,
			}})
			err = s.cfg.Store.HostKeys.Forget(ctx, t.ID, []string{keyLine(key)})
		}
		if err != nil {
			return nil, err
		}
		report = append(report, r)
	}
	if len(report) == 0 {
		report = []ImportedKey{{Result: importUnused, Detail: "no target has this address"}}
	}
	return report, nil
}

// importKey does to t what a line with this marker and key says, or says why not.
func importKey(t *store.Target, marker, line string) ImportedKey {
	kind, _, _ := strings.Cut(line, " ")
	switch {
	case marker == "revoked":
		known := slices.Contains(t.RevokedKeys, line)
		t.HostKeys, t.HostCAs = without(t.HostKeys, []string{line}), without(t.HostCAs, []string{line})
		if known {
			return ImportedKey{Result: importKnown, Detail: "revoked before"}
		}
		t.RevokedKeys = append(t.RevokedKeys, line)
		return ImportedKey{Result: importRevoked, Detail: "never taken from now on"}
	case slices.Contains(t.RevokedKeys, line):
		return ImportedKey{Result: importUnused, Detail: "the key is revoked for this target"}
	case marker == "cert-authority":
		return importAuthority(t, line)
	case t.HostKeyMode == store.HostCA:
		return ImportedKey{Result: importUnused, Detail: "the target takes host certificates only"}
	case slices.Contains(t.HostKeys, line):
		return ImportedKey{Result: importKnown, Detail: "pinned before"}
	case slices.ContainsFunc(t.HostKeys, func(k string) bool { return strings.HasPrefix(k, kind+" ") }):
		return ImportedKey{Result: importWaiting, Detail: fmt.Sprintf("another %s key is pinned; compare, then: sallyport hostkey approve %s", kind, t.Name)}
	}
	t.HostKeys = append(t.HostKeys, line)
	return ImportedKey{Result: importPinned, Detail: kind}
}

// importAuthority has t trust a CA. A target that is known by a key of its own stays so.
func importAuthority(t *store.Target, line string) ImportedKey {
	if slices.Contains(t.HostCAs, line) {
		return ImportedKey{Result: importKnown, Detail: "its CA before"}
	}
	t.HostCAs = append(t.HostCAs, line)
	if t.HostKeyMode != store.HostCA && len(t.HostKeys) > 0 {
		return ImportedKey{Result: importCA, Detail: fmt.Sprintf("kept; its pinned key counts until: sallyport target update %s --host-key-mode ca", t.Name)}
	}
	t.HostKeyMode = store.HostCA
	return ImportedKey{Result: importCA, Detail: "only host certificates of this CA are taken now"}
}

// matchesKnownHost tells whether the hosts of a line speak of address: by name or pattern, none of
// them negated, or hashed.
func matchesKnownHost(hosts []string, address string) bool {
	name := strings.ToLower(knownhosts.Normalize(address))
	matched := false
	for _, h := range hosts {
		pattern, negated := strings.CutPrefix(h, "!")
		ok := false
		if strings.HasPrefix(pattern, "|1|") {
			ok = matchesHash(pattern, name)
		} else {
			ok = matchesPattern(strings.ToLower(pattern), name)
		}
		if ok && negated {
			return false
		}
		matched = matched || ok
	}
	return matched
}

// matchesHash compares name with "|1|salt|hash", both in base64, hash being HMAC-SHA1 with the salt as
// key.
func matchesHash(pattern, name string) bool {
	parts := strings.Split(pattern, "|")
	if len(parts) != 4 {
		return false
	}
	salt, err1 := base64.StdEncoding.DecodeString(parts[2])
	hash, err2 := base64.StdEncoding.DecodeString(parts[3])
	if err1 != nil || err2 != nil {
		return false
	}
	m := hmac.New(sha1.New, salt)
	m.Write([]byte(name))
	return hmac.Equal(m.Sum(nil), hash)
}

// matchesPattern compares with * for any characters and ? for one (ssh_config(5), PATTERNS).
func matchesPattern(pattern, name string) bool {
	p, n, star, mark := 0, 0, -1, 0
	for n < len(name) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, mark = p, n
			p++
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == name[n]):
			p, n = p+1, n+1
		case star >= 0:
			mark++
			p, n = star+1, mark
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}
