package identity

import (
	"errors"
	"testing"

	"github.com/go-ldap/ldap/v3"
)

func TestBindError(t *testing.T) {
	t.Parallel()
	const ad = "80090308: LdapErr: DSID-0C09044E, comment: AcceptSecurityContext error, data "
	policy := func(code int8) *ldap.SimpleBindResult {
		c := ldap.NewControlBeheraPasswordPolicy()
		c.Error = code
		return &ldap.SimpleBindResult{Controls: []ldap.Control{c}}
	}
	answer := func(code uint16, text string) error { return ldap.NewError(code, errors.New(text)) }
	tests := []struct {
		name   string
		result *ldap.SimpleBindResult
		err    error
		want   error
	}{
		{"success", &ldap.SimpleBindResult{}, nil, nil},
		{"success with policy", policy(-1), nil, nil},
		{"success, must change", policy(policyChangeAfterReset), nil, ErrExpired},
		{"wrong password", nil, answer(49, ""), ErrPassword},
		{"locked by policy", policy(policyAccountLocked), answer(49, ""), ErrLocked},
		{"expired by policy", policy(policyPasswordExpired), answer(49, ""), ErrExpired},
		{"AD no such user", nil, answer(49, ad+"525, v2580"), ErrPassword},
		{"AD wrong password", nil, answer(49, ad+"52e, v2580"), ErrPassword},
		{"AD hours", nil, answer(49, ad+"530, v2580"), ErrDisabled},
		{"AD machine", nil, answer(49, ad+"531, v2580"), ErrDisabled},
		{"AD password expired", nil, answer(49, ad+"532, v2580"), ErrExpired},
		{"AD disabled", nil, answer(49, ad+"533, v2580\x00"), ErrDisabled},
		{"AD account expired", nil, answer(49, ad+"701, v2580"), ErrDisabled},
		{"AD must change", nil, answer(49, ad+"773, v2580"), ErrExpired},
		{"AD locked", nil, answer(49, ad+"775, v2580"), ErrLocked},
		{"AD unheard of", nil, answer(49, ad+"999, v2580"), ErrPassword},
		{"constraint violation", nil, answer(19, "exceed password retry limit"), ErrLocked},
		{"unwilling", nil, answer(53, "account inactivated"), ErrLocked},
		{"no password", nil, answer(48, ""), ErrPassword},
		{"gone", nil, answer(32, ""), ErrPassword},
		{"no right", nil, answer(50, ""), ErrPassword},
		{"busy", nil, answer(51, ""), ErrUnavailable},
		{"unavailable", nil, answer(52, ""), ErrUnavailable},
		{"referral", nil, answer(10, ""), ErrUnavailable},
		{"wants TLS", nil, answer(13, ""), ErrUnavailable},
		{"time limit", nil, answer(3, ""), ErrUnavailable},
		{"other", nil, answer(80, ""), ErrUnavailable},
		{"network", nil, answer(ldap.ErrorNetwork, "closed"), ErrUnavailable},
		{"not of LDAP", nil, errors.New("unable to read"), ErrUnavailable},
	}
	for _, tt := range tests {
		got := bindError(tt.result, tt.err)
		if !errors.Is(got, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
		if errors.Is(got, ErrPassword) && errors.Is(got, ErrUnavailable) {
			t.Errorf("%s: %v is in two classes", tt.name, got)
		}
		refusal := tt.want != nil && tt.want != ErrUnavailable
		if errors.Is(got, ErrPassword) != refusal {
			t.Errorf("%s: %v: is ErrPassword = %v, want %v", tt.name, got, !refusal, refusal)
		}
	}
}
