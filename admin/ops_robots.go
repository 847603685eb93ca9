package admin

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/crypto/ssh"

	"sallyport/audit"
	"sallyport/auth"
	"sallyport/identity"
	"sallyport/store"
)

const seeRobots = "see: sallyport robot list"

// maxRobotCommand bounds a command of a robot in bytes.
const maxRobotCommand = 8 << 10

// robot finds a robot by name.
func (s *Server) robot(ctx context.Context, name string) (store.Robot, error) {
	r, err := s.cfg.Store.Robots.ByName(ctx, strings.ToLower(name))
	return r, ifNotFound(err, seeRobots, "there is no robot %s", audit.Escape(name))
}

// addRobot makes a robot, whose name nobody else has.
func (s *Server) addRobot(ctx context.Context, by Caller, n NewRobot) (store.Robot, error) {
	name, err := checkLogin(n.Name)
	if err != nil {
		return store.Robot{}, err
	}
	r := store.Robot{Name: name, Enabled: true}
	if err := s.applyRobot(&r, RobotChange{
		PublicKey: n.PublicKey, Sources: n.Sources, Targets: n.Targets, Accounts: n.Accounts, Commands: n.Commands, Note: &n.Note, Expires: n.Expires,
	}, map[string]string{}); err != nil {
		return store.Robot{}, err
	}
	taken := conflict("choose another name, such as "+name+"-bot", "somebody has the name %s already", name)
	switch vacant, err := s.cfg.Engine.Vacant(ctx, name); {
	case err != nil:
		return store.Robot{}, err
	case !vacant:
		return store.Robot{}, taken
	}
	r, err = s.cfg.Store.Robots.Add(ctx, r)
	switch {
	case errors.Is(err, store.ErrNameTaken):
		return store.Robot{}, taken
	case errors.Is(err, store.ErrExists):
		return store.Robot{}, conflict("make a key for this robot alone: ssh-keygen -t ed25519", "the key %s belongs to somebody already", r.Fingerprint)
	case err != nil:
		return store.Robot{}, err
	}
	s.changed(ctx, by, "robot.add", audit.Event{User: r.Name, Detail: robotDetail(r)})
	return r, nil
}

func robotDetail(r store.Robot) map[string]string {
	return map[string]string{
		"key": r.Fingerprint, "sources": strings.Join(r.Sources, ","), "targets": strings.Join(r.Targets, ","),
		"accounts": strings.Join(r.Accounts, ","), "commands": strings.Join(r.Commands, "\n"),
	}
}

// changeRobot changes what is named in n. What that takes away ends at once: the robot's sessions are ended
// unless the change adds nothing but a note.
func (s *Server) changeRobot(ctx context.Context, by Caller, name string, n RobotChange) (store.Robot, error) {
	detail := map[string]string{}
	var before store.Robot
	r, err := s.cfg.Store.Robots.Change(ctx, strings.ToLower(name), func(r *store.Robot) error {
		before = *r
		return s.applyRobot(r, n, detail)
	})
	if errors.Is(err, store.ErrExists) {
		err = conflict("make a key for this robot alone: ssh-keygen -t ed25519", "the key belongs to somebody already")
	}
	if err := ifNotFound(err, seeRobots, "there is no robot %s", audit.Escape(name)); err != nil {
		return store.Robot{}, err
	}
	s.changed(ctx, by, "robot.update", audit.Event{User: r.Name, Detail: detail})
	if !r.Usable(s.cfg.Now()) || r.Fingerprint != before.Fingerprint || lost(before.Sources, r.Sources) || lost(before.Targets, r.Targets) ||
		lost(before.Accounts, r.Accounts) || lost(before.Commands, r.Commands) {
		s.endSessions(ctx, by, store.SessionFilter{User: r.Name}, "the robot was changed")
	}
	return r, nil
}

// lost tells whether something of before is not in after.
func lost(before, after []string) bool {
	return slices.ContainsFunc(before, func(x string) bool { return !slices.Contains(after, x) })
}

// deleteRobot removes a robot and ends its sessions.
func (s *Server) deleteRobot(ctx context.Context, by Caller, name string) error {
	r, err := s.robot(ctx, name)
	if err != nil {
		return err
	}
	if err := s.cfg.Store.Robots.Delete(ctx, r.Name); err != nil {
		return ifNotFound(err, seeRobots, "there is no robot %s", r.Name)
	}
	s.changed(ctx, by, "robot.remove", audit.Event{User: r.Name})
	s.endSessions(ctx, by, store.SessionFilter{User: r.Name}, "the robot was removed")
	return nil
}

// applyRobot does n to r, checks what comes out and notes the change in detail.
func (s *Server) applyRobot(r *store.Robot, n RobotChange, detail map[string]string) error {
	if n.PublicKey != "" {
		key, err := parseUserKey(n.PublicKey)
		if err != nil {
			return err
		}
		r.PublicKey, r.Fingerprint = keyLine(key), ssh.FingerprintSHA256(key)
		detail["key"] = r.Fingerprint
	}
	if n.Sources != nil {
		sources, err := canonicalSources(n.Sources)
		if err != nil {
			return err
		}
		r.Sources, detail["sources"] = sources, strings.Join(sources, ",")
	}
	for _, l := range []struct {
		what string
		new  []string
		list *[]string
		sep  string
	}{{"targets", n.Targets, &r.Targets, ","}, {"accounts", n.Accounts, &r.Accounts, ","}, {"commands", n.Commands, &r.Commands, "\n"}} {
		if l.new != nil {
			*l.list, detail[l.what] = l.new, strings.Join(l.new, l.sep)
		}
	}
	if n.Note != nil {
		r.Note, detail["note"] = *n.Note, *n.Note
	}
	if n.Enabled != nil {
		r.Enabled, detail["enabled"] = *n.Enabled, map[bool]string{true: "yes", false: "no"}[*n.Enabled]
	}
	if n.NeverExpires {
		r.Expires, detail["expires"] = time.Time{}, "never"
	}
	if n.Expires != nil {
		if !n.Expires.After(s.cfg.Now()) {
			return invalid("give a time to come, such as --expires 90d", "the robot would have expired already")
		}
		r.Expires, detail["expires"] = n.Expires.UTC(), n.Expires.UTC().Format(time.RFC3339)
	}
	return checkRobot(*r)
}

func checkRobot(r store.Robot) error {
	for _, l := range []struct {
		what, flag string
		list       []string
	}{{"sources", "--from", r.Sources}, {"targets", "--target", r.Targets}, {"accounts", "--account", r.Accounts}, {"commands", "--command", r.Commands}} {
		switch {
		case len(l.list) == 0:
			return invalid("give at least one: "+l.flag, "a robot is held to what is listed, and its %s are missing", l.what)
		case len(l.list) > 200:
			return invalid("make more than one robot", "a robot has at most 200 %s", l.what)
		}
	}
	if r.Fingerprint == "" {
		return invalid("give it: --key-file FILE", "the robot's public key is missing")
	}
	for i, c := range r.Commands {
		switch {
		case c == "" || len(c) > maxRobotCommand || !utf8.ValidString(c) || strings.ContainsFunc(c, unicode.IsControl):
			return invalid("write one line of text, at most 8 KiB", "%s cannot be a command of a robot", audit.Quote(c))
		case strings.TrimSpace(c) != c:
			return invalid("commands are compared byte by byte", "the command %s begins or ends with a blank", audit.Quote(c))
		case slices.Contains(r.Commands[:i], c):
			return invalid("name each command once", "the command %s is there twice", audit.Quote(c))
		}
	}
	if err := checkText("note", r.Note, 500); err != nil {
		return err
	}
	if err := auth.CheckRobot(r); err != nil {
		return invalid("targets and accounts are words as in rules; sources are addresses and networks, and not the whole world", "%s", audit.Escape(err.Error()))
	}
	return nil
}

// canonicalSources reads addresses and networks.
func canonicalSources(list []string) ([]string, error) {
	sources := make([]string, 0, len(list))
	for _, word := range list {
		p, err := netip.ParsePrefix(word)
		if err != nil {
			a, err := netip.ParseAddr(word)
			if err != nil || a.Zone() != "" {
				return nil, invalid("write 192.0.2.7, 192.0.2.0/24 or 2001:db8::/48", "%s is neither an address nor a network", audit.Quote(word))
			}
			a = a.Unmap()
			p = netip.PrefixFrom(a, a.BitLen())
		}
		if p.Addr().Is4In6() {
			return nil, invalid("write it as IPv4", "%s is an IPv4 network in the form of IPv6", audit.Quote(word))
		}
		if p = p.Masked(); !slices.Contains(sources, p.String()) {
			sources = append(sources, p.String())
		}
	}
	return sources, nil
}

// parseUserKey reads a public key that is to stand for a person or a robot.
func parseUserKey(line string) (ssh.PublicKey, error) {
	key, _, err := identity.ParseUserKey(line)
	if err != nil {
		return nil, invalid("paste the line that begins with ssh-ed25519, ecdsa-sha2-…, ssh-rsa or sk-…, without anything before", "this key cannot be used: %s", err)
	}
	return key, nil
}
