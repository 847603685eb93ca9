package auth

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/audit"
	"sallyport/identity"
	"sallyport/policy"
	"sallyport/store"
)

// Conversation collects a person's answers and comes to a verdict once. A door begins a new one for
// each try.
type Conversation struct {
	e *Engine
	a Attempt

	password     identity.Password
	havePassword bool
	key          string           // fingerprint of a public key whose possession was proved; "": none
	cert         *ssh.Certificate // of that key; nil: the key stands for itself
	outer        *Outer           // the connection within which this one is made; nil: none
	subject      *subject         // looked up before; nil: not yet

	joined    *joined // password and code came as one; nil: they did not
	elsewhere bool    // the door's client has checked the first factor, or there is none
	steps     bool    // a machine asks for the code after the password, each with a request of its own

	matches      func(code string) bool // a code was proved, not sent; nil: it was sent
	rememberedAt time.Time              // when the code was accepted that is not asked for again; zero: one is asked for

	onProof func(Decision) // told of the first proof, see OnFirstProof; nil: nobody is

	sending *sending // not nil: the first factor is verified, and a code was asked for

	traceless bool      // answers are judged to be accepted at once: nothing is written, see atOnce
	decided   *Decision // written with the acceptance; nil: it was not

	known *known // what an earlier Run found out that could not ask for the code; nil: nothing
}

// promptGrid is the grid on which the code is asked for after the password: longer than the look-ups take that are made
// for people who are known.
const promptGrid = 20 * time.Millisecond

// known is what a conversation knows before it asks for a code.
type known struct {
	subject   subject
	needCode  bool
	tokenOnly bool          // a code that is sent does not do for the target named
	target    *store.Target // nil: not looked up
	lockout   policy.Limit  // of the rule that lets the person in there

	decision  *Decision    // about that target; nil: not made
	decidedAt time.Time    // when that was asked, of a client
	remembers []Decision   // those of the rules asked that remember codes
	grant     *store.Grant // stands in for the code; nil: none

	free *store.FreeLogins // the person never had a token, and comes in without a code; nil: otherwise
}

// Begin starts a conversation for one attempt.
func (e *Engine) Begin(a Attempt) *Conversation {
	if a.ID == "" {
		a.ID = rand.Text()
	}
	return &Conversation{e: e, a: a}
}

// WithPassword hands over a password that the door's protocol brought by itself (SSH method
// "password"). It is kept and not evaluated before the code is here too.
func (c *Conversation) WithPassword(p identity.Password) *Conversation {
	c.password, c.havePassword = p, true
	return c
}

// WithKey hands over the fingerprint (SHA256:…) of a public key whose possession the door has
// verified; a key that was merely offered must never come here.
func (c *Conversation) WithKey(fingerprint string) *Conversation {
	c.key = fingerprint
	return c
}

// OnFirstProof has f called, at most once and in a goroutine of its own, as soon as a key that the door has
// verified turns out to be of a person whom the rules would let go to the target they named, or a code of
// such a person has matched: so that the door can make ready what it will need. Nothing is decided then. The
// verdict neither waits for f nor hears of it, and a password that is not verified leads to no call.
func (c *Conversation) OnFirstProof(f func(Decision)) *Conversation {
	c.onProof = f
	return c
}

// firstProof tells of it. s is the person as of now.
func (c *Conversation) firstProof(k *known, s subject) {
	f := c.onProof
	if f == nil || k.decision == nil || !k.decision.Allow || s.err != nil || s.user != nil && s.user.LockedNow(c.e.cfg.Now()) {
		return
	}
	c.onProof = nil
	go f(*k.decision)
}

// WithProof is WithKey for what the door's protocol brought: a key, or a certificate of one, which is judged
// at the verdict.
func (c *Conversation) WithProof(key ssh.PublicKey) *Conversation {
	if cert, ok := key.(*ssh.Certificate); ok {
		c.key, c.cert = ssh.FingerprintSHA256(cert.Key), cert
		return c
	}
	return c.WithKey(ssh.FingerprintSHA256(key))
}

// lookup finds the person, unless that was done before.
func (c *Conversation) lookup(ctx context.Context) subject {
	if c.subject != nil {
		return *c.subject
	}
	return c.e.lookup(ctx, c.a.Login)
}

// Run asks for what is missing and evaluates it. The error is a *[Refused] when the person was
// refused, or whatever the Asker returned when the person went away. After an error of the Asker Run
// may be called once more, with another one: it goes on with what it knows of the person.
func (c *Conversation) Run(ctx context.Context, ask Asker) (*Identity, error) {
	found := make(chan subject, 1)
	if c.known == nil {
		go func() { found <- c.lookup(context.WithoutCancel(ctx)) }()
	}
	if !c.havePassword && !c.proved() {
		answer, err := askOne(ctx, ask, Prompt{Text: PromptPassword})
		if err != nil {
			return nil, err
		}
		c.password, c.havePassword = identity.Password(answer), true
	}
	answered := c.e.cfg.Now()
	k := c.known
	if c.known = nil; k == nil {
		k = &known{subject: <-found}
		c.demand(ctx, k)
		c.recall(ctx, k)
		if c.key != "" {
			c.firstProof(k, k.subject)
		}
	}
	s, needCode := k.subject, k.needCode
	var settled error // not nil: the verdict has fallen, and only the person's prompts go on
	_, silent := ask.(cannotAsk)
	switch by := c.sends(k); {
	case silent:
	case by != "":
		err := c.sendAfterFirst(context.WithoutCancel(ctx), k, by)
		if errors.Is(err, ErrUnavailable) {
			return nil, refused(err)
		}
		settled = err
	case c.mayEnterFree(k):
		id, err := c.enterFree(ctx, ask, k)
		if !errors.Is(err, errAskCode) {
			return id, err
		}
		settled = err
	case needCode && c.e.cfg.EnrolAtLogin && c.havePassword:
		if c.mayEnrol(s) {
			id, err := c.enrol(ctx, ask, k)
			if !errors.Is(err, errAskCode) {
				return id, err
			}
			settled = err
		}
	}
	if needCode && c.havePassword {
		// A person without a token had the password looked at before the next prompt, and for a person who is
		// known the rules were asked; nobody else may be told apart from them by time.
		switch {
		case c.sendsHere():
			c.e.waitForGrid(answered, c.e.cfg.Grid)
		case c.e.cfg.EnrolAtLogin, c.e.cfg.WithoutToken.Logins > 0:
			c.e.waitForGrid(answered, enrolGrid)
		default:
			c.e.waitForGrid(answered, promptGrid)
		}
	}
	var code string
	if needCode {
		var err error
		if code, err = c.askCode(ctx, ask, k); err != nil {
			if settled == nil {
				c.known = k
			}
			return nil, err
		}
	}
	if settled != nil {
		c.e.waitForGrid(c.e.cfg.Now(), c.e.cfg.Grid)
		return nil, refused(settled)
	}
	id, err := c.conclude(ctx, k, code)
	if errors.Is(err, errGrantGone) {
		k.grant, k.needCode = nil, true
		if code, err = askOne(ctx, ask, Prompt{Text: PromptCode}); err != nil {
			c.known = k
			return nil, err
		}
		id, err = c.conclude(ctx, k, code)
	}
	if err == nil && k.needCode {
		c.remind(ctx, ask, id)
	}
	return id, err
}

// conclude evaluates the answers, answers failures on the time grid and writes the audit event.
func (c *Conversation) conclude(ctx context.Context, k *known, code string) (*Identity, error) {
	started := c.e.cfg.Now()
	// From here on nothing that the client does may stop the evaluation half-way: a guess that was
	// looked at is a guess that counts.
	ctx = context.WithoutCancel(ctx)
	id, err := c.evaluate(ctx, k, code, c.accepted)
	if errors.Is(err, errGrantGone) {
		return nil, err
	}
	if err != nil {
		c.reportRefusal(ctx, k.subject, err)
		c.e.waitForGrid(started, c.e.cfg.Grid)
		return nil, refused(err)
	}
	return id, nil
}

// demand asks the rules what this person must prove for the target they named. Without a target, at every
// door but SSH, and when anything is unclear, a code is needed. A robot that has proved its key is never asked
// for anything.
func (c *Conversation) demand(ctx context.Context, k *known) {
	s := k.subject
	if s.robot != nil && c.key != "" {
		return
	}
	k.needCode = true
	if c.a.Door != audit.DoorSSH || c.a.Target == "" {
		return
	}
	if s.err != nil {
		k.needCode = !c.outer.spares() // who is refused anyway is asked for a code like anybody
		return
	}
	d, err := c.e.decide(ctx, person{login: s.login, groups: s.groups()},
		Request{Target: c.a.Target, Account: c.a.Account, Source: c.a.Source}, c.e.cfg.Now())
	if err != nil {
		k.tokenOnly = true
		return
	}
	k.target, k.decision = &d.Target, &d
	if d.Allow {
		k.lockout, k.tokenOnly = d.Lockout, d.TokenOnly
	}
	if c.outer != nil {
		k.needCode = c.e.outerNeedsCode(ctx, c.outer, d)
	} else if d.Allow {
		k.needCode = d.Code.Kind != policy.CodeNone
	}
}

func askOne(ctx context.Context, ask Asker, p Prompt) (string, error) {
	answers, err := ask.Ask(ctx, "", []Prompt{p})
	if err != nil {
		return "", fmt.Errorf("asking %q: %w", p.Text, err)
	}
	if len(answers) != 1 {
		return "", fmt.Errorf("asking %q: got %d answers, want 1", p.Text, len(answers))
	}
	return answers[0], nil
}

// waitForGrid returns at the next multiple of grid after started, so that what happened in between
// cannot be told from the time it took.
func (e *Engine) waitForGrid(started time.Time, grid time.Duration) {
	elapsed := e.cfg.Now().Sub(started)
	if elapsed < 0 {
		elapsed = 0
	}
	const coarse = 2 * time.Millisecond
	end := time.Now().Add(grid - elapsed%grid)
	time.Sleep(time.Until(end) - coarse)
	sleepExactly(end)
}

// accepted is the event without which nobody gets in.
func (c *Conversation) accepted(id *Identity) audit.Event {
	detail := c.a.detail()
	detail["factors"] = join(id.Factors)
	if id.Robot != "" {
		detail["robot"] = id.Robot
	}
	if id.KeyFingerprint != "" {
		detail["key"] = id.KeyFingerprint
	}
	if cert := id.Certificate; cert != nil {
		detail["ca"], detail["key-id"], detail["serial"] = cert.CA, audit.Escape(cert.KeyID), strconv.FormatUint(cert.Serial, 10)
	}
	ev := audit.Event{
		Type: audit.LoginAccepted, Result: audit.OK, Door: c.a.Door, User: id.Login, Source: sourceText(c.a.Source),
		Target: c.a.Target, Account: c.a.Account, Detail: detail,
	}
	c.outer.tell(&ev, id.CodeAt)
	return ev
}

func (c *Conversation) reportRefusal(ctx context.Context, s subject, cause error) {
	e, a := c.e, c.a
	ev := audit.Event{
		Type: audit.LoginRefused, Result: audit.Refused, Door: a.Door, User: s.login, Source: sourceText(a.Source),
		Target: a.Target, Account: a.Account, Reason: cause.Error(), Detail: a.detail(),
	}
	c.outer.tell(&ev, time.Time{})
	if errors.Is(cause, ErrUnavailable) {
		ev.Result = audit.Error
	}
	_ = e.cfg.Audit.Emit(ctx, ev) // kept in memory and flushed later if the database is away; the person is refused anyway
	if s.user != nil && ev.Result == audit.Refused && a.Source.IsValid() {
		_ = e.cfg.Store.Places.Refused(ctx, s.user.ID, a.Source) // what is lost here is in the audit log
	}
	if errors.Is(cause, ErrReplay) {
		ev.Type, ev.Detail = audit.CodeReplayed, maps.Clone(ev.Detail)
		var r *Replay
		if errors.As(cause, &r) {
			r.detail(ev.Detail)
		}
		_ = e.cfg.Audit.Emit(ctx, ev)
	}
}

func join(words []string) string {
	out := ""
	for i, w := range words {
		if i > 0 {
			out += "+"
		}
		out += w
	}
	return out
}
