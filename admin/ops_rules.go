package admin

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"sallyport/audit"
	"sallyport/policy"
	"sallyport/store"
)

// putRules puts a new rules document in force, or with DryRun tells what that would change. The error
// is a *policy.ParseError if the document is wrong, and a conflict if the rules in force are not the
// version that the change was made from. A document that is in force already is not put again.
func (s *Server) putRules(ctx context.Context, by Caller, n NewRules) (RulesChange, error) {
	if _, err := policy.Parse([]byte(n.Text)); err != nil {
		return RulesChange{}, err
	}
	now, err := s.cfg.Store.Rules.Current(ctx)
	if err != nil {
		return RulesChange{}, err
	}
	expect := now.Version
	if n.Version != nil {
		expect = *n.Version
	}
	if expect != now.Version {
		return RulesChange{}, stale(now.Version)
	}
	change := RulesChange{Version: now.Version, Changed: n.Text != now.Text, Diff: policy.Diff(now.Text, n.Text)}
	if n.DryRun || !change.Changed {
		return change, nil
	}
	put, err := s.cfg.Store.Rules.Put(ctx, n.Text, by.Actor, expect)
	if errors.Is(err, store.ErrConflict) {
		return RulesChange{}, stale(now.Version + 1)
	}
	if err != nil {
		return RulesChange{}, err
	}
	change.Version, change.Applied = put.Version, true
	added, removed := countLines(change.Diff)
	s.changed(ctx, by, "rules.put", audit.Event{Detail: map[string]string{
		"version": fmt.Sprint(put.Version), "lines-added": fmt.Sprint(added), "lines-removed": fmt.Sprint(removed),
	}})
	return change, nil
}

func stale(version int64) error {
	return conflict("look at them (sallyport export), make your change again, and apply",
		"the rules were changed by somebody else meanwhile; version %d or a later one is in force", version)
}

func countLines(diff string) (added, removed int) {
	for line := range strings.Lines(diff) {
		switch {
		case strings.HasPrefix(line, "+++"), strings.HasPrefix(line, "---"):
		case strings.HasPrefix(line, "+"):
			added++
		case strings.HasPrefix(line, "-"):
			removed++
		}
	}
	return added, removed
}
