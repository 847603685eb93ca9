package store

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// MaxJumps is how many jump hosts may stand between the bastion and a target.
const MaxJumps = 4

// RouteError says why targets cannot be reached through each other as was asked.
type RouteError struct {
	Text string // for operators: one line, with names of targets
}

func (e *RouteError) Error() string { return e.Text }

// jump is what a way through a target needs to know of it.
type jump struct {
	name, via, viaAccount, credential string
	accounts                          []string
}

// checkRoutes refuses t as it is to be if some way through or to it would not end, be too long, or lead
// through what nobody can go through. The caller holds lockRoutes.
func (s Targets) checkRoutes(ctx context.Context, q querier, t Target) error {
	jumps, err := all(ctx, q, func(j *jump) []any {
		return []any{&j.name, &j.via, &j.viaAccount, &j.credential, jsonColumn{&j.accounts}}
	}, "SELECT name, via, via_account, credential, accounts FROM targets WHERE id <> ?", t.ID)
	if err != nil {
		return err
	}
	known := map[string]jump{t.Name: {t.Name, t.Via, t.ViaAccount, t.Credential, t.Accounts}}
	for _, j := range jumps {
		known[j.name] = j
	}
	for _, name := range slices.Sorted(maps.Keys(known)) {
		if err := checkRoute(known, name, t.Name); err != nil {
			return err
		}
	}
	return nil
}

// checkRoute follows the way to name, and refuses it if changed has a part in it and it does not work.
func checkRoute(known map[string]jump, name, changed string) error {
	way := []string{name}
	for at := known[name]; at.via != ""; {
		next, ok := known[at.via]
		var why string
		switch {
		case !ok:
			why = "there is no target " + at.via
		case slices.Contains(way, next.name):
			why = "the way " + strings.Join(append(way, next.name), " through ") + " goes round in a circle"
		case len(way) > MaxJumps:
			why = fmt.Sprintf("the way %s through %s leads through more than %d jump hosts", strings.Join(way, " through "), next.name, MaxJumps)
		default:
			why = checkJump(next, at.viaAccount)
		}
		way = append(way, at.via)
		if why != "" {
			if slices.Contains(way, changed) {
				return &RouteError{why}
			}
			return nil // broken before, and no business of this change
		}
		at = next
	}
	return nil
}

// checkJump says why nobody can go through j as account, if so.
func checkJump(j jump, account string) string {
	switch {
	case j.credential == CredentialRelayed:
		return "target " + j.name + " asks each person itself and cannot be a jump host"
	case account == "" && len(j.accounts) == 0:
		return "target " + j.name + " has no accounts of its own: name the one to log in to there, as in account@" + j.name
	case account != "" && len(j.accounts) > 0 && !slices.Contains(j.accounts, account):
		return "target " + j.name + " has no account " + account
	}
	return ""
}

// through lists the targets that are reached through name, in the order of their names.
func (s Targets) through(ctx context.Context, q querier, name string) ([]string, error) {
	names, err := all(ctx, q, func(n *string) []any { return []any{n} }, "SELECT name FROM targets WHERE via = ?", name)
	slices.SortFunc(names, compareNatural)
	return names, err
}

// keepRoutes refuses to take a target away under a name by which others go through it.
func (s Targets) keepRoutes(ctx context.Context, q querier, name string) error {
	names, err := s.through(ctx, q, name)
	if err == nil && len(names) > 0 {
		err = &RouteError{"other targets go through " + name + ": " + strings.Join(names, ", ")}
	}
	return err
}
