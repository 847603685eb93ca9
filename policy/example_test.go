package policy_test

import (
	"fmt"
	"net/netip"

	"sallyport/policy"
)

// The document of the project's contract, word for word.
const contractDocument = `version: 1
networks:
  office: [192.0.2.0/24, 2001:db8::/48]
rules:
  - name: no-vault-from-outside
    deny: true
    targets: [vault]
    not-from: [office]
    message: vault is reached from the office only
  - name: dba
    users: [group:dba, carol]
    targets: [env=prod, "db-*"]
    accounts: [postgres, "{user}"]
    from: [office]
    channels: [shell, exec, sftp, {local-forward: ["10.1.0.0/16:5432"]}]
    code: {younger-than: 30m}            # always | younger-than | none (only with from)
    trust: {idle: 8h, max: 24h, uses: 50, sources: [office]}
    recording: required                  # required | best-effort | off
    limits: {idle: 15m, max: 8h, sessions: 3}
  - name: ops
    users: [group:ops]
    targets: ["*"]
    channels: [shell, exec, sftp, scp]
`

func Example() {
	rules, err := policy.Parse([]byte(contractDocument))
	if err != nil {
		fmt.Println(err)
		return
	}
	request := policy.Request{
		User:    "carol",
		Target:  policy.Target{Name: "db-7", Labels: map[string]string{"env": "prod"}},
		Account: "postgres",
		Source:  netip.MustParseAddr("192.0.2.10"),
	}
	d := rules.Decide(request)
	fmt.Println(d.Allow, d.Rule, d.Channels, "code:", d.Code, "recording:", d.Recording)

	request.Source = netip.MustParseAddr("203.0.113.7")
	request.Channel = policy.Shell
	d = rules.Decide(request)
	fmt.Println(d.Allow, d.Why)
	for _, v := range d.Trace {
		fmt.Printf("%s: %s\n", v.Rule, v.Why)
	}
	// Output:
	// true dba [shell exec sftp local-forward] code: younger than 30m recording: required
	// false no rule matches
	// no-vault-from-outside: target db-7 is not in targets [vault]
	// dba: source 203.0.113.7 is not in from [office]
	// ops: user carol is not in users [group:ops]
}

func ExampleParse_error() {
	_, err := policy.Parse([]byte("version: 1\nrules:\n  - name: ops\n    users: [group:ops]\n    target: [web1]\n"))
	fmt.Println(err)
	// Output:
	// line 5, column 5: unknown key "target"; a rule may have: name, deny, message, users, targets, accounts, from, not-from, channels, env, observed, moderator, code, token-only, password-code, reply, trust, recording, record-limit, search, retention, record-input, break-glass, sftp, relay, approval, limits, lockout
	//    5 |     target: [web1]
	//      |     ^
}
