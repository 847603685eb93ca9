package bastion

import (
	"sallyport/ledger"
	"sallyport/policy"
	"sallyport/session"
)

// accesses are the words of the ledger in those of the rules.
var accesses = map[ledger.Access]policy.Access{
	ledger.Read: policy.ReadFile, ledger.Write: policy.WriteFile, ledger.Look: policy.LookAt,
	ledger.ReadAll: policy.ReadBeneath, ledger.WriteAll: policy.WriteBeneath,
}

// heldTo asks the paths of a rule for the ledger.
type heldTo struct{ paths *policy.Paths }

// Allows is for [ledger.Policy].
func (h heldTo) Allows(a ledger.Access, path string) bool {
	access, known := accesses[a]
	return known && h.paths.Allows(access, path)
}

// files are the paths that a decision holds file transfers to.
func files(p *policy.Paths) *session.Files {
	if p == nil {
		return nil
	}
	return &session.Files{Policy: heldTo{p}, Rule: p.Rule(), Text: p.String()}
}
