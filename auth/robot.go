package auth

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"sallyport/audit"
	"sallyport/identity"
	"sallyport/policy"
	"sallyport/store"
)

// errRobotKey is why a robot is refused that comes with anything but its own key. To whoever types a password
// or a code it is as unknown as a name that nobody has, also in what is counted.
var errRobotKey = fmt.Errorf("%w: a robot comes with its own key and nothing else", ErrUnknownUser)

// robotKinds are what a command of a robot may be called by; it is always a command.
var robotKinds = []policy.Channel{{Kind: policy.Exec}, {Kind: policy.SCP}, {Kind: policy.Rsync}, {Kind: policy.Git}}

// robotRules is the row of a robot in the form in which package policy decides: one rule, without a code,
// so that sources must be listed and may not be the whole world.
func robotRules(r store.Robot) (*policy.Document, error) {
	return policy.New(nil, []policy.Rule{{
		Name: "robot " + r.Name, Effect: policy.Allow, Users: []string{r.Name}, Targets: r.Targets, Accounts: r.Accounts,
		From: r.Sources, Channels: robotKinds, Code: policy.Code{Kind: policy.CodeNone},
	}})
}

// CheckRobot says what is wrong with the lists of a robot.
func CheckRobot(r store.Robot) error {
	_, err := robotRules(r)
	return err
}

// Vacant tells whether a name could be a robot's: no user, no robot and nobody in the directory has it, not
// even somebody outside the login group. The error is ErrUnavailable if that cannot be told.
func (e *Engine) Vacant(ctx context.Context, name string) (bool, error) {
	s := e.lookup(ctx, name)
	if errors.Is(s.err, ErrUnavailable) {
		return false, s.err
	}
	inDirectory := s.person != nil || errors.Is(s.err, identity.ErrNotMember) || errors.Is(s.err, identity.ErrAmbiguous)
	return s.user == nil && s.robot == nil && !inDirectory && errors.Is(s.err, ErrUnknownUser), nil
}

// judgeRobot judges a robot that has proved a key: its row is all that counts.
func (c *Conversation) judgeRobot(s subject, v *verdict) error {
	r := s.robot
	switch {
	case s.err != nil:
		return s.err
	case c.cert != nil || c.key != r.Fingerprint:
		return errRobotKey
	case !r.Usable(c.e.cfg.Now()):
		return fmt.Errorf("%w: the robot is disabled or has expired", ErrDisabled)
	}
	if ok, err := listed(strings.Join(r.Sources, ","), c.a.Source); err != nil || !ok {
		return fmt.Errorf("%w: the robot may not come from %s", ErrDenied, c.a.Source)
	}
	v.Robot = &store.RobotUse{ID: r.ID, Fingerprint: r.Fingerprint}
	v.id = &Identity{Robot: r.ID, Login: r.Name, Door: c.a.Door, Source: c.a.Source, Factors: []string{"key"}, KeyFingerprint: c.key}
	return nil
}

// decideRobot decides about a robot. Its row, read afresh, is the permission; rules that deny hold for it as
// well, wherever they stand. It needs no code, and gets nothing but its commands.
func (e *Engine) decideRobot(ctx context.Context, id Identity, r Request, at time.Time) (Decision, error) {
	robot, err := e.cfg.Store.Robots.ByID(ctx, id.Robot)
	gone := errors.Is(err, store.ErrNotFound)
	if err != nil && !gone {
		return Decision{}, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	doc, version, err := e.Rules(ctx)
	if err != nil {
		return Decision{}, err
	}
	d := Decision{RulesVersion: version, Account: r.Account, Refusal: robotRefusal(id.Login)}
	t, err := e.cfg.Store.Targets.ByName(ctx, r.Target)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return d, nil
	case err != nil:
		return Decision{}, fmt.Errorf("%w: reading target: %w", ErrUnavailable, err)
	}
	d.Target = t
	if gone || !robot.Usable(at) || robot.Fingerprint != id.KeyFingerprint {
		d.Why = "the robot is disabled, has expired, was removed or has another key"
		return d, nil
	}
	own, err := robotRules(robot)
	if err != nil {
		return Decision{}, fmt.Errorf("%w: the row of robot %s: %w", ErrUnavailable, robot.Name, err)
	}
	kind := cmp.Or(r.Channel, policy.Exec)
	for i, account := range candidates(t, person{login: robot.Name}, r.Account) {
		q := policy.Request{
			User: robot.Name, Target: policy.Target{Name: t.Name, Labels: t.Labels}, Account: account, Source: r.Source, Channel: kind, To: r.To, At: at,
		}
		got := own.Decide(q)
		for _, q.Channel = range []string{kind, policy.Exec} { // whatever it is called, it is a command
			if denial := doc.Denial(q); !denial.Allow {
				got = denial
			}
		}
		if i == 0 || got.Allow {
			d.Decision, d.Account = got, account
		}
		if got.Allow {
			break
		}
	}
	needs := doc.Decide(policy.Request{User: robot.Name, Target: policy.Target{Name: t.Name, Labels: t.Labels}, Account: d.Account, Source: r.Source,
		Channel: kind, To: r.To, At: at})
	switch d.Refusal = ""; {
	case d.Allow && needs.Approval != nil:
		d.Allow, d.Rule, d.Why = false, needs.Rule, "the rule asks for an approval, and a robot does not wait for one"
		d.Refusal = fmt.Sprintf("Rule %s asks that people approve sessions on %s, and a robot does not wait for that. Ask an operator, who can run: sallyport robot show %s",
			printable(needs.Rule), t.Name, robot.Name)
	case d.Allow && r.Channel != "" && !slices.Contains(robot.Commands, r.Command):
		d.Allow, d.Refusal = false, robotRefusal(robot.Name)
		d.Why = "the command is not listed"
	case !d.Allow && d.Message != "":
		d.Refusal = refusal(person{login: robot.Name}, r, d)
	case !d.Allow:
		d.Refusal = robotRefusal(robot.Name)
	}
	return d, nil
}

// explainRobot answers for a robot and the first of its commands: the others differ in nothing.
func (e *Engine) explainRobot(ctx context.Context, robot store.Robot, r ExplainRequest, at time.Time) (Decision, error) {
	d, err := e.decideRobot(ctx, Identity{Robot: robot.ID, Login: robot.Name, KeyFingerprint: robot.Fingerprint},
		Request{Target: r.Target, Account: r.Account, Channel: r.Channel, To: r.To, Source: r.Source, Command: robot.Commands[0]}, at)
	if err == nil && d.Target.ID == "" {
		err = fmt.Errorf("target %s: %w", audit.Escape(r.Target), store.ErrNotFound)
	}
	return d, err
}

// robotRefusal is all that a robot's log gets to read.
func robotRefusal(name string) string {
	return fmt.Sprintf("This robot may not do that. Ask an operator, who can run: sallyport robot show %s", name)
}
