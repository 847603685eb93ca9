package admin

import (
	"context"
	"fmt"
	"time"

	"sallyport/audit"
	"sallyport/internal/web"
	"sallyport/store"
)

// radiusDoctor says what was heard of a client and what follows from it.
func (s *Server) radiusDoctor(ctx context.Context, name string) (RadiusDoctor, error) {
	c, err := s.radiusClient(ctx, name)
	if err != nil {
		return RadiusDoctor{}, err
	}
	counts, err := s.cfg.Store.RadiusClients.Counts(ctx, &c.ID)
	if err != nil {
		return RadiusDoctor{}, err
	}
	heard, last := heard{}, time.Time{}
	for _, n := range counts {
		heard[n.Kind] = n
		if n.Last.After(last) {
			last = n.Last
		}
	}
	return RadiusDoctor{Client: wireRadiusClient(c), LastSeen: timeOf(last), Findings: heard.findings(c), Counts: list(counts, wireRadiusCount)}, nil
}

// heard is what was counted of a client, by kind.
type heard map[string]store.RadiusCount

func (h heard) times(kind string) int64 { return h[kind].Times }

func (h heard) at(kind string) string { return h[kind].Last.UTC().Format(time.RFC3339) }

// still tells whether kind was heard, and not any of the others since.
func (h heard) still(kind string, others ...string) bool {
	for _, o := range others {
		if h[o].Last.After(h[kind].Last) {
			return false
		}
	}
	return h.times(kind) > 0
}

// findings reads the counts as somebody would who knows the protocol.
func (h heard) findings(c store.RadiusClient) []RadiusFinding {
	out := []RadiusFinding{}
	say := func(when bool, level, hint, format string, args ...any) {
		if when {
			out = append(out, RadiusFinding{Level: level, Text: fmt.Sprintf(format, args...), Hint: hint})
		}
	}
	const signed, unsigned, missing, wrong = "message-authenticator", "no-message-authenticator", "message-authenticator-missing", "message-authenticator-wrong"
	update := "sallyport radius client update " + c.Name
	say(!c.Enabled, "warning", "sallyport radius client enable "+c.Name, "The client is disabled: it is not answered.")
	say(len(h) == 0, "warning", "look at its address and port, at firewalls on the way, and at: sallyport radius strangers", "Nothing was heard of it yet.")
	say(h.times("request") > 0, "ok", "", "Last request at %s from %s.", h.at("request"), audit.Escape(h["request"].Detail))
	say(h.still(signed, unsigned, missing), "ok", "", "It sends Message-Authenticator.")
	say(h.still(missing, signed), "error", "switch it on there, or update it (CVE-2024-3596); if that cannot be: "+update+" --message-authenticator no",
		"It sends no Message-Authenticator: %s discarded for that, the last at %s.", web.Plural(h.times(missing), "request was", "requests were"), h.at(missing))
	say(h.still(unsigned, signed), "warning", "switch it on there, then: "+update+" --message-authenticator yes",
		"It sends no Message-Authenticator: whoever is between it and here can turn a refusal into the opposite (CVE-2024-3596).")
	say(h.still(wrong, signed), "error", "compare the secrets; a new one: "+update+" --generate-secret",
		"The secret looks wrong: %s with a wrong Message-Authenticator, the last at %s.", web.Plural(h.times(wrong), "request", "requests"), h.at(wrong))
	say(h.still("secret-suspect", "accept"), "error", "compare the secrets; a new one: "+update+" --generate-secret",
		"The secret looks wrong: %s decoded to what nobody can type, the last at %s.", web.Plural(h.times("secret-suspect"), "password", "passwords"), h.at("secret-suspect"))
	say(h.times("proxy-state-discarded") > 0, "error", "switch Message-Authenticator on at the proxy in between",
		"%s with Proxy-State and without Message-Authenticator.", web.Plural(h.times("proxy-state-discarded"), "request was discarded: it came", "requests were discarded: they came"))
	say(h.times("proxy-state") > 0, "ok", "", "Its requests come through a proxy (Proxy-State).")
	say(h.times("unsupported-method") > 0, "warning", "have it send PAP", "%s came by a method that is not answered: EAP, MS-CHAP, or CHAP where it is not switched on.", web.Plural(h.times("unsupported-method"), "request", "requests"))
	say(h.times("failed") > 0, "error", "look at the log, and report what it says", "%s not answered because of a fault of this program, the last at %s.", web.Plural(h.times("failed"), "request was", "requests were"), h.at("failed"))
	say(c.LegacyMSCHAPv2, "warning", "have it send PAP, by RadSec where the network is not trusted, then: "+update+" --legacy-mschapv2=false",
		"MS-CHAPv2 is switched on: whoever hears a login finds the code out of it at once.")
	level := "ok"
	if n := h.times("request"); n > 20 && h.times("retransmit")*10 > n {
		level = "warning"
	}
	say(h.times("retransmit") > 0, level, "if that is many: answers get lost, or it waits less than three seconds for one",
		"It repeated itself %s in %s.", web.Plural(h.times("retransmit"), "time", "times"), web.Plural(h.times("request"), "request", "requests"))
	say(h.times("malformed") > 0, "warning", "", "%s could not be read, the last at %s: %s.", web.Plural(h.times("malformed"), "packet", "packets"), h.at("malformed"), audit.Escape(h["malformed"].Detail))
	say(h.times("busy") > 0, "warning", "", "%s discarded because 256 others of it were in work.", web.Plural(h.times("busy"), "request was", "requests were"))
	say(h.times("unavailable") > 0, "warning", "look at the log", "%s not answered since database or directory were away, the last at %s.", web.Plural(h.times("unavailable"), "request was", "requests were"), h.at("unavailable"))
	say(h.times("drift") > 0, "ok", "", "The last code was %s time steps ahead.", audit.Escape(h["drift"].Detail))
	say(!c.AssertsSource, "warning", "if it sends "+radiusAttributes[c.SourceAttribute]+" with the address of the person: "+update+" --asserts-source",
		"Nothing is known about where people come from: rules with from refuse, and failures count by person and client alone.")
	return out
}
