package policy

import (
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// maxCount bounds what is counted, such as trust.uses and limits.sessions.
const maxCount = 1_000_000

// checkRule refuses what no reading of single words can find.
func checkRule(r *Rule) *ruleError {
	if err := checkText(r.Name); err != nil {
		return wrong("name", fmt.Errorf("the rule's name %w", err))
	}
	if r.Message != "" {
		if err := checkText(r.Message); err != nil {
			return wrong("message", fmt.Errorf("the message %w", err))
		}
	}
	switch {
	case r.Effect == Allow:
		return checkAllow(r)
	case r.Effect != Deny:
		return wrong("deny", errors.New("the effect is neither Allow nor Deny"))
	}
	for _, f := range []struct {
		field string
		set   bool
	}{
		{"observed", r.Silent},
		{"moderator", r.Moderator != nil},
		{"code", r.Code != Code{}},
		{"token-only", r.TokenOnly},
		{"password-code", r.PasswordCode},
		{"trust", r.Trust != nil},
		{"recording", r.Recording != RecordRequired},
		{"record-limit", r.RecordLimit != 0},
		{"search", r.Unsearched},
		{"retention", r.Retention != 0},
		{"record-input", r.RecordInput},
		{"break-glass", r.BreakGlass},
		{"sftp", r.SFTP != nil},
		{"relay", r.Relay},
		{"approval", r.Approval != nil},
		{"limits", r.Limits != Limits{}},
		{"lockout", r.Lockout != Limit{}},
		{"env", r.Env != nil},
		{"reply", r.Reply != nil},
	} {
		if f.set {
			return wrong(f.field, errors.New("has no meaning in a rule that denies"))
		}
	}
	return nil
}

func checkAllow(r *Rule) *ruleError {
	switch {
	case r.Message != "":
		return wrong("message", errors.New("is for rules that deny"))
	case len(r.Users) == 0:
		return wrong("", errors.New(`allows but has no users: write users: ["*"] for everybody`))
	case len(r.Targets) == 0:
		return wrong("", errors.New(`allows but has no targets: write targets: ["*"] for every target`))
	case r.TokenOnly && r.Code.Kind == CodeNone:
		return wrong("token-only", errors.New("has no meaning where no code is asked (code: none)"))
	case r.PasswordCode && r.Code.Kind == CodeNone:
		return wrong("password-code", errors.New("has no meaning where no code is asked (code: none)"))
	case r.Recording > RecordOff:
		return wrong("recording", errors.New("is not a mode"))
	case r.RecordInput && r.Recording == RecordOff:
		return wrong("record-input", errors.New("has no meaning where nothing is recorded (recording: off)"))
	case r.BreakGlass && r.Recording != RecordRequired:
		return wrong("break-glass", errors.New("has a meaning with recording: required only"))
	case r.BreakGlass && !r.Code.Fresh:
		return wrong("break-glass", errors.New("needs code: fresh, so that each use has a code of its own"))
	}
	if r.RecordLimit != 0 {
		if err := checkSize(r.RecordLimit); err != nil {
			return wrong("record-limit", err)
		}
	}
	if err := checkModerator(r.Moderator); err != nil {
		return err
	}
	if r.Retention != 0 && r.Retention != Forever {
		if err := checkDuration(r.Retention); err != nil {
			return wrong("retention", err)
		}
		if r.Recording == RecordOff {
			return wrong("retention", errors.New("has no meaning where nothing is recorded (recording: off)"))
		}
	}
	if err := checkCode(r.Code); err != nil {
		return wrong("code", err)
	}
	if err := checkTrust(r.Trust); err != nil {
		return wrong("trust", err)
	}
	if r.Trust != nil && r.Code.Fresh {
		return wrong("trust", errors.New("has no meaning with code: fresh"))
	}
	if err := checkApproval(r.Approval); err != nil {
		return err
	}
	if err := checkLockout(r.Lockout); err != nil {
		return wrong("lockout", err)
	}
	if err := checkFiles(r); err != nil {
		return err
	}
	return checkLimits(r.Limits)
}

func checkLockout(l Limit) error {
	for _, d := range []time.Duration{l.Window, l.Lock} {
		if d == 0 {
			continue
		}
		if err := checkDuration(d); err != nil {
			return err
		}
	}
	return checkCount(l.Failures)
}

func checkCode(c Code) error {
	if c.Fresh && c.Kind != CodeAlways {
		return errors.New("is either fresh or something else")
	}
	switch c.Kind {
	case CodeYoungerThan:
		return checkDuration(c.YoungerThan)
	case CodeAlways, CodeNone:
		if c.YoungerThan != 0 {
			return errors.New("an age has a meaning with younger-than only")
		}
		return nil
	}
	return errors.New("is not a kind of code")
}

func checkTrust(t *Trust) error {
	if t == nil {
		return nil
	}
	for _, d := range []time.Duration{t.Idle, t.Max} {
		if err := checkDuration(d); err != nil {
			return err
		}
	}
	if t.Idle > t.Max {
		return fmt.Errorf("idle %s is longer than max %s", formatDuration(t.Idle), formatDuration(t.Max))
	}
	if g := t.Grow; g != nil {
		if err := checkDuration(g.Max); err != nil {
			return err
		}
		if g.Max <= t.Max || g.After < 1 {
			return fmt.Errorf("grow needs after, and a max above %s, such as {after: 10, max: 7d}", formatDuration(t.Max))
		}
		if err := checkCount(g.After); err != nil {
			return err
		}
	}
	if err := checkCount(t.Targets); err != nil {
		return err
	}
	return checkCount(t.Uses)
}

func checkLimits(l Limits) *ruleError {
	for _, d := range l.durations() {
		if d.value == 0 {
			continue
		}
		if err := checkDuration(d.value); err != nil {
			return wrong("limits."+d.key, err)
		}
	}
	for _, c := range l.counts() {
		if c.value < 0 || c.value > c.max {
			return wrong("limits."+c.key, fmt.Errorf("a count must lie between 1 and %d", c.max))
		}
	}
	return nil
}

// checkCount accepts zero, which means that nothing is counted.
func checkCount(n int) error {
	if n < 0 || n > maxCount {
		return fmt.Errorf("a count must lie between 1 and %d", maxCount)
	}
	return nil
}

// checkCodeNone keeps a rule from sparing the code to the whole world, also when the world is written as
// several prefixes.
func checkCodeNone(r *Rule, from []netip.Prefix) *ruleError {
	if len(r.From) == 0 {
		return wrong("code", errors.New("none needs from: say from which addresses no code is asked"))
	}
	for _, whole := range []struct{ prefix, name string }{
		{"0.0.0.0/0", "all of IPv4"},
		{"::/0", "all of IPv6"},
		{"2000::/3", "all of IPv6 that is routed"},
	} {
		if coversPrefix(from, netip.MustParsePrefix(whole.prefix)) {
			return wrong("from", fmt.Errorf("covers %s, which code: none must not", whole.name))
		}
	}
	return nil
}

// coversPrefix reports whether the set together holds every address of p.
func coversPrefix(set []netip.Prefix, p netip.Prefix) bool {
	var inside []netip.Prefix
	for _, s := range set {
		if s.Bits() <= p.Bits() && s.Contains(p.Addr()) {
			return true
		}
		if p.Contains(s.Addr()) {
			inside = append(inside, s)
		}
	}
	if len(inside) < 2 {
		return false
	}
	low, high := halves(p)
	return coversPrefix(inside, low) && coversPrefix(inside, high)
}

// halves splits a prefix in two. It is called with p shorter than an address only.
func halves(p netip.Prefix) (low, high netip.Prefix) {
	bits := p.Bits() + 1
	upper := p.Addr().AsSlice()
	upper[p.Bits()/8] |= 0x80 >> (p.Bits() % 8)
	addr, _ := netip.AddrFromSlice(upper)
	return netip.PrefixFrom(p.Addr(), bits), netip.PrefixFrom(addr, bits)
}
