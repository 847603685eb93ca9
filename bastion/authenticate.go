package bastion

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"golang.org/x/crypto/ssh"

	"sallyport/audit"
	"sallyport/auth"
	"sallyport/identity"
)

// identityKey is where the verdict travels in ssh.Permissions: only the step that succeeded puts it
// there, so that nothing a client merely offered or tried can become somebody.
type identityKey struct{}

// errRefused is all that the SSH layer hears of a refusal.
var errRefused = errors.New("permission denied")

// errMustAsk ends a conversation in a step that cannot ask anything.
var errMustAsk = errors.New("a prompt is needed")

// serverConfig is the one place where authentication of clients is put together. "none" is never
// accepted: NoClientAuth stays false, and its callback refuses all the same.
func (c *connection) serverConfig() *ssh.ServerConfig {
	cfg := &ssh.ServerConfig{
		Config:                      c.algorithms(),
		PublicKeyAuthAlgorithms:     userKeyAlgorithms(),
		MaxAuthTries:                20, // keys of an agent count here; tries are counted by conversation
		ServerVersion:               "SSH-2.0-Sallyport",
		NoClientAuthCallback:        func(ssh.ConnMetadata) (*ssh.Permissions, error) { return nil, errRefused },
		KeyboardInteractiveCallback: c.keyboardInteractive(nil),
		PasswordCallback:            c.passwordMethod,
		PublicKeyCallback:           c.keyOffered,
		VerifiedPublicKeyCallback:   c.keyVerified,
		BannerCallback:              c.strangeName,
		PreAuthConnCallback: func(p ssh.ServerPreAuthConn) {
			c.pre = p
			c.held.exchanged()
			_ = c.guarded.allow(c.s.cfg.Guard.Prompt)
		},
	}
	for _, k := range c.s.cfg.HostKeys {
		cfg.AddHostKey(k)
	}
	return cfg
}

// strangeName tells before any prompt that a user name is none that anybody could have. It says nothing of who exists.
func (c *connection) strangeName(m ssh.ConnMetadata) string {
	if _, ok := ParseLogin(m.User(), c.s.cfg.Suffixes); ok {
		return ""
	}
	return "sallyport: \"" + shorten(m.User()) + "\" is not understood. Before @bastion write user, user@target or user@account@target.\n"
}

// algorithms offered to clients. AES-GCM first because it is what Go does fastest; plain
// hmac-sha2-256 with CTR is for Dropbear and libssh2. ChaCha20 is slow in Go and left out.
func (c *connection) algorithms() ssh.Config {
	return ssh.Config{
		RekeyThreshold: c.s.cfg.RekeyAfter,
		KeyExchanges:   []string{ssh.KeyExchangeMLKEM768X25519, ssh.KeyExchangeCurve25519, "curve25519-sha256@libssh.org"},
		Ciphers:        []string{ssh.CipherAES128GCM, ssh.CipherAES256GCM, ssh.CipherAES128CTR, ssh.CipherAES256CTR},
		MACs:           []string{ssh.HMACSHA256ETM, ssh.HMACSHA512ETM, ssh.HMACSHA256},
	}
}

func userKeyAlgorithms() []string {
	return []string{
		ssh.KeyAlgoED25519, ssh.KeyAlgoSKED25519, ssh.KeyAlgoSKECDSA256,
		ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521, ssh.KeyAlgoRSASHA256, ssh.KeyAlgoRSASHA512,
	}
}

// begin starts a conversation for what the client now says its user name is.
func (c *connection) begin(m ssh.ConnMetadata) (*auth.Conversation, Login) {
	a, login := c.attempt(m)
	return c.early(c.s.cfg.Engine.Begin(a)), login
}

// early has the target dialled as soon as a first proof was given in conv.
func (c *connection) early(conv *auth.Conversation) *auth.Conversation {
	return conv.OnFirstProof(func(d auth.Decision) {
		if d.Approval == nil { // else others have to agree before anything of the target is touched
			c.ahead.begin(c.s.cfg.Dialer, d.Target, d.Account)
		}
	})
}

func (c *connection) attempt(m ssh.ConnMetadata) (auth.Attempt, Login) {
	login, ok := ParseLogin(m.User(), c.s.cfg.Suffixes)
	a := auth.Attempt{
		ID: c.nonce, Door: audit.DoorSSH, Login: login.User, Source: c.source, Target: login.Target, Account: login.Account,
		Client: string(m.ClientVersion()),
	}
	if !ok {
		a.Target, a.Account = "", ""
	}
	return a, login
}

// keyboardInteractive runs a whole conversation, after prepare has added what an earlier method of a
// partial success brought (RFC 4252, section 5.1).
func (c *connection) keyboardInteractive(prepare func(*auth.Conversation)) func(ssh.ConnMetadata, ssh.KeyboardInteractiveChallenge) (*ssh.Permissions, error) {
	return func(m ssh.ConnMetadata, challenge ssh.KeyboardInteractiveChallenge) (*ssh.Permissions, error) {
		conv, login := c.begin(m)
		if prepare != nil {
			prepare(conv)
		}
		return c.run(conv, login, &asker{c: c, challenge: challenge})
	}
}

// run takes one of the connection's tries.
func (c *connection) run(conv *auth.Conversation, login Login, ask *asker) (*ssh.Permissions, error) {
	if c.tries++; c.tries > c.s.cfg.Guard.Tries {
		_ = c.guarded.Close()
		return nil, errRefused
	}
	id, err := conv.Run(context.Background(), ask)
	if err != nil {
		c.ahead.drop()
		var r *auth.Refused
		if errors.As(err, &r) && errors.Is(r.Err, auth.ErrUnavailable) {
			_ = c.pre.SendAuthBanner(r.Public + "\n")
		}
		_ = c.guarded.allow(c.s.cfg.Guard.Prompt)
		return nil, errRefused
	}
	return c.admitted(*id, login, ask)
}

// verdict is what authentication ends with.
type verdict struct {
	id    auth.Identity
	login Login
}

// passwordMethod keeps the password unevaluated and lets the code follow: whoever can tell from the
// answer whether the password was right could guess passwords without a token. Where a rule takes a code in the
// password field, both are evaluated; if that opens nothing, all goes on as if it had not been tried.
func (c *connection) passwordMethod(m ssh.ConnMetadata, password []byte) (*ssh.Permissions, error) {
	p := identity.Password(password)
	_ = c.guarded.allow(c.s.cfg.Guard.Prompt)
	conv, login := c.begin(m)
	if id, err := conv.RunPasswordCode(context.Background(), p); err == nil {
		return c.admitted(*id, login, nil)
	}
	c.ahead.drop()
	_ = c.guarded.allow(c.s.cfg.Guard.Prompt)
	return nil, &ssh.PartialSuccessError{Next: ssh.ServerAuthCallbacks{
		KeyboardInteractiveCallback: c.keyboardInteractive(func(conv *auth.Conversation) { conv.WithPassword(p) }),
	}}
}

// keyOffered says whether a key would do. Nothing is taken from an offer but this answer.
func (c *connection) keyOffered(m ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
	if err := c.guarded.allow(c.s.cfg.Guard.Prompt); err != nil {
		return nil, errRefused
	}
	login, ok := ParseLogin(m.User(), c.s.cfg.Suffixes)
	if !ok {
		return nil, errRefused
	}
	ring := c.keyring(login.User)
	if ring == nil {
		return nil, errRefused
	}
	if err := ring.Takes(context.Background(), key, c.source); err != nil {
		level := slog.LevelDebug // an agent offers all it has
		if _, ok := key.(*ssh.Certificate); ok {
			level = slog.LevelInfo
		}
		c.s.cfg.Log.Log(context.Background(), level, "key not taken", "user", audit.Escape(login.User), "source", c.source, "key", ssh.FingerprintSHA256(key), "reason", audit.Escape(err.Error()))
		return nil, errRefused
	}
	return &ssh.Permissions{}, nil // empty: what a certificate says is imposed by auth, at the end of all steps
}

// maxKeyrings bounds the names that one connection may ask about with keys; each is a look-up.
const maxKeyrings = 3

// keyring answers about the keys of a login, which is looked up once a connection; nil after too many names.
func (c *connection) keyring(login string) *auth.Keyring {
	if ring, ok := c.keyrings[login]; ok {
		return ring
	}
	if len(c.keyrings) >= maxKeyrings {
		return nil
	}
	if c.keyrings == nil {
		c.keyrings = map[string]*auth.Keyring{}
	}
	c.keyrings[login] = c.s.cfg.Engine.Keyring(context.Background(), login)
	return c.keyrings[login]
}

// keyVerified goes on when the client has proved possession: to the code, or straight in where a
// rule asks for none from a trusted source.
func (c *connection) keyVerified(m ssh.ConnMetadata, key ssh.PublicKey, _ *ssh.Permissions, _ string) (*ssh.Permissions, error) {
	attempt, login := c.attempt(m)
	ring := c.keyring(login.User)
	if ring == nil {
		return nil, errRefused
	}
	conv := c.early(ring.Begin(attempt, key))
	id, err := conv.Run(context.Background(), silent{})
	switch {
	case err == nil:
		return c.admitted(*id, login, nil)
	case !errors.Is(err, errMustAsk):
		c.ahead.drop()
		return nil, errRefused
	}
	first := conv // goes on with what it has found out; later tries begin anew
	again := c.keyboardInteractive(func(conv *auth.Conversation) { conv.WithProof(key) })
	return nil, &ssh.PartialSuccessError{Next: ssh.ServerAuthCallbacks{
		KeyboardInteractiveCallback: func(m ssh.ConnMetadata, challenge ssh.KeyboardInteractiveChallenge) (*ssh.Permissions, error) {
			if first == nil {
				return again(m, challenge)
			}
			conv, first = first, nil
			return c.run(conv, login, &asker{c: c, challenge: challenge}) // the library lets no client change its name in between
		},
	}}
}

// silent is an Asker that can ask nothing.
type silent struct{}

func (silent) Ask(context.Context, string, []auth.Prompt) ([]string, error) { return nil, errMustAsk }
func (silent) CannotAsk()                                                   {} // auth sends no code then
func (silent) Show(context.Context, string) error                           { return errMustAsk }

// asker carries a conversation over keyboard-interactive (RFC 4256). Longer texts go as a banner in
// the middle of authentication, where OpenSSH keeps UTF-8.
type asker struct {
	c         *connection
	challenge ssh.KeyboardInteractiveChallenge
}

// Ask implements auth.Asker.
func (a *asker) Ask(_ context.Context, instruction string, prompts []auth.Prompt) ([]string, error) {
	texts, echos := make([]string, len(prompts)), make([]bool, len(prompts))
	limit := a.c.s.cfg.Guard.Prompt
	for i, p := range prompts {
		texts[i], echos[i] = p.Text, p.Echo
		if p.Text == auth.PromptNewCode {
			limit = a.c.s.cfg.Guard.Enrolment
		}
	}
	if err := a.c.guarded.allow(limit); err != nil {
		return nil, err
	}
	answers, err := a.challenge("", instruction, texts, echos)
	if err != nil {
		return nil, fmt.Errorf("keyboard-interactive: %w", err)
	}
	// The evaluation itself is bounded by the engine; this only keeps the clock from running out
	// on somebody who waits for a turn.
	return answers, a.c.guarded.allow(a.c.s.cfg.Guard.Prompt)
}

// Show implements auth.Asker.
func (a *asker) Show(_ context.Context, text string) error {
	if err := a.c.pre.SendAuthBanner(text); err != nil {
		return fmt.Errorf("sending a banner: %w", err)
	}
	return nil
}
