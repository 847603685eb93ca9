package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sallyport/admin"
	"sallyport/audit"
	"sallyport/internal/auditlog"
	"sallyport/internal/config"
	"sallyport/internal/seal"
	"sallyport/internal/web"
	"sallyport/store"
)

// ringWait is how long a rotation waits for other nodes to read their key rings again, which they do every
// few seconds.
const ringWait = 20 * time.Second

// maxPasses bounds how often a rotation goes through all rows. A second one is needed for what nodes sealed
// that had not read their key ring again.
const maxPasses = 10

func keysCommand(g *globals) *cobra.Command {
	return group("keys", "Keys that seal the secrets in the database, and keys that sign; runs where the key ring is",
		keysStatusCommand(g), keysRotateCommand(g), keysDropCommand(g), keysNewCommand(g),
		keysSigningCommand(g), keysRotateSigningCommand(g), keysCompromisedCommand(g))
}

// keyWork is what the commands about keys need: the configuration, the database, the log.
type keyWork struct {
	g     *globals
	cfg   *config.Config
	store *store.Store
}

// withKeys is a command that works on the database and the key ring themselves, beside running servers.
func withKeys(g *globals, use, short string, args cobra.PositionalArgs, do func(ctx context.Context, w keyWork, args []string) error) *cobra.Command {
	var file string
	c := &cobra.Command{
		Use: use, Short: short, Args: usageArgs(args),
		RunE: func(c *cobra.Command, args []string) (err error) {
			cfg, err := loadConfig(file)
			if err != nil {
				return err
			}
			ring, err := loadRing(cfg)
			if err != nil {
				return err
			}
			st, err := openStore(c.Context(), cfg, ring)
			if err != nil {
				return err
			}
			defer st.Close()
			return do(c.Context(), keyWork{g, cfg, st}, args)
		},
	}
	c.Flags().StringVarP(&file, "config", "c", defaultConfig, "configuration file")
	return c
}

func (w keyWork) source() string { return string(w.cfg.Keys.Ring) }

// record leaves the event of a change.
func (w keyWork) record(ctx context.Context, change string, detail map[string]string) error {
	detail["change"] = change
	log := auditlog.New(auditlog.Config{Sink: w.store.Audit, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)), Node: string(w.cfg.Node)})
	return log.Emit(ctx, audit.Event{Type: audit.OperatorChange, Result: audit.OK, Door: audit.DoorConsole, Actor: "console", Detail: detail})
}

func keysStatusCommand(g *globals) *cobra.Command {
	return withKeys(g, "status", "List the keys with the number of rows that each has sealed", cobra.NoArgs,
		func(ctx context.Context, w keyWork, _ []string) error {
			uses, err := w.store.Keys.Uses(ctx)
			if err != nil {
				return err
			}
			var keys []admin.Key
			for _, u := range uses {
				keys = append(keys, admin.WireKeyUse(u))
			}
			if err := printList(g, keys, "No keys.", []string{"ID", "STATE", "ROWS", "WHERE"}, func(k admin.Key) []string {
				var where []string
				for _, table := range slices.Sorted(maps.Keys(k.Tables)) {
					where = append(where, fmt.Sprintf("%s %d", table, k.Tables[table]))
				}
				return []string{k.ID, k.State, itoa(k.Rows), strings.Join(where, ", ")}
			}); err != nil || g.json() {
				return err
			}
			nodes, err := w.store.Keys.Nodes(ctx)
			for _, n := range nodes {
				g.say("node %s has: %s", audit.Escape(n.Node), strings.Join(n.IDs, " "))
			}
			return err
		})
}

func keysNewCommand(g *globals) *cobra.Command {
	return &cobra.Command{
		Use: "new", Short: "Print a new key, for a key ring that is a credential or a variable", Args: usageArgs(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			line, _ := seal.NewLine()
			g.say("Put this line last into the key ring of every node and start them again; then first, start them again, and run: sallyport keys rotate")
			_, err := fmt.Fprintln(g.Out, line)
			return err
		},
	}
}

func keysRotateCommand(g *globals) *cobra.Command {
	c := withKeys(g, "rotate", "Make a new key the active one, and seal everything with it", cobra.NoArgs,
		func(ctx context.Context, w keyWork, _ []string) error { return w.rotate(ctx) })
	c.Long = c.Short + ".\nServers go on meanwhile. It may be stopped at any time and run again, also on two nodes at once: it goes on\nwhere it was. The key before stays in the ring until: sallyport keys drop"
	return c
}

func (w keyWork) rotate(ctx context.Context) error {
	if seal.IsFile(w.source()) {
		if err := w.activate(ctx); err != nil {
			return err
		}
	}
	active, moved, err := w.reseal(ctx)
	if err != nil {
		return err
	}
	if err := w.finished(ctx, active); err != nil {
		return err
	}
	if moved == 0 && !seal.IsFile(w.source()) {
		w.g.say("For a new key: sallyport keys new")
	}
	if err := w.record(ctx, "keys.rotate", map[string]string{"key": active, "rows": itoa(moved)}); err != nil {
		return err
	}
	return w.g.done(admin.Key{ID: active, State: admin.KeyActive, Rows: moved, Tables: map[string]int{}}, "sealed %s again; everything is sealed with key %s now", web.Plural(moved, "row", "rows"), active)
}

// activate makes the key file's active key the one of this rotation: a new one, or the one of a rotation
// that has not come to its end.
func (w keyWork) activate(ctx context.Context) error {
	next, err := w.store.Keys.Next(ctx)
	if err != nil {
		return err
	}
	// After the setting: whoever has set it had added the key to the file before.
	if _, err := w.store.Keys.Reload(); err != nil {
		return err
	}
	uses, err := w.store.Keys.Uses(ctx)
	if err != nil {
		return err
	}
	has := func(id string) bool {
		return slices.ContainsFunc(uses, func(u store.KeyUse) bool { return u.ID == id && u.InRing })
	}
	switch {
	case next != "" && !has(next):
		return failed("Copy the key ring of the node where that was begun to "+w.source()+", mode 0600, and run this again.",
			"a rotation to key %s has been begun, and the key ring here does not have it", next)
	case next == "" && w.old(uses) > 0:
		return nil // the end of an earlier one
	case next == "":
		if next, err = seal.AddKey(w.source()); err != nil {
			return err
		}
		switch begun, err := w.store.Keys.SetNext(ctx, "", next); {
		case err != nil:
			return err
		case !begun: // somebody else was faster; this key is not needed
			if err := seal.Drop(w.source(), next); err != nil {
				return err
			}
			return failed("Run this again: it joins in.", "another rotation was begun at the same moment")
		}
	}
	hint := "Copy " + w.source() + " to them, mode 0600; they read it within seconds. Then run this again."
	missing, err := w.waitForNodes(ctx, func(n store.NodeRing) bool { return slices.Contains(n.IDs, next) })
	if err != nil {
		return err
	}
	if len(missing) > 0 {
		return failed(hint, "key %s is in the ring here and not yet on: %s", next, strings.Join(missing, ", "))
	}
	if err := seal.Promote(w.source(), next); err != nil {
		return err
	}
	if _, err := w.store.Keys.Reload(); err != nil {
		return err
	}
	if missing, err = w.waitForNodes(ctx, func(n store.NodeRing) bool { return n.IDs[0] == next }); err != nil {
		return err
	}
	if len(missing) > 0 {
		w.g.say("These nodes still seal with another key: %s. %s", audit.Escape(strings.Join(missing, ", ")), hint)
	}
	return nil
}

// old counts rows that the ring opens with a key other than the active one.
func (w keyWork) old(uses []store.KeyUse) int {
	n := 0
	for _, u := range uses {
		if u.InRing && !u.Active {
			n += u.Rows
		}
	}
	return n
}

// waitForNodes waits until every node that runs is as wanted, and returns the names of those that are not.
func (w keyWork) waitForNodes(ctx context.Context, wanted func(store.NodeRing) bool) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, ringWait)
	defer cancel()
	for {
		nodes, err := w.store.Keys.Nodes(context.WithoutCancel(ctx))
		if err != nil {
			return nil, err
		}
		var missing []string
		for _, n := range nodes {
			if len(n.IDs) == 0 || !wanted(n) {
				missing = append(missing, n.Node)
			}
		}
		if len(missing) == 0 {
			return nil, nil
		}
		select {
		case <-ctx.Done():
			return missing, nil
		case <-time.After(500 * time.Millisecond):
		}
	}
}

// reseal goes through everything until nothing is left to do.
func (w keyWork) reseal(ctx context.Context) (active string, moved int, err error) {
	for range maxPasses {
		var p store.Pass
		for done := false; !done; {
			if err := ctx.Err(); err != nil {
				return "", moved, err
			}
			if done, err = w.store.Keys.Reseal(ctx, &p); err != nil {
				return "", moved, err
			}
		}
		moved += p.Moved
		uses, err := w.store.Keys.Uses(ctx)
		if err != nil {
			return "", moved, err
		}
		if len(p.Failed) > 0 {
			return "", moved, failed("Bring back the key ring that sealed them, or delete them.", "%s cannot be opened, the first: %v", web.Plural(len(p.Failed), "row", "rows"), p.Failed[0])
		}
		if w.old(uses) == 0 {
			return uses[0].ID, moved, nil
		}
	}
	return "", moved, failed("Give all nodes the same key ring, then run this again.", "other nodes go on sealing with an older key")
}

// finished notes that no rotation to active is under way any more.
func (w keyWork) finished(ctx context.Context, active string) error {
	_, err := w.store.Keys.SetNext(ctx, active, "")
	return err
}

func keysDropCommand(g *globals) *cobra.Command {
	return withKeys(g, "drop ID", "Take a key out of the key ring that nothing is sealed with any more", cobra.ExactArgs(1),
		func(ctx context.Context, w keyWork, args []string) error { return w.drop(ctx, args[0]) })
}

func (w keyWork) drop(ctx context.Context, id string) error {
	uses, err := w.store.Keys.Uses(ctx)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(uses, func(u store.KeyUse) bool { return u.ID == id && u.InRing })
	switch {
	case i < 0:
		return failed("See: sallyport keys status", "the key ring has no key %s", audit.Escape(id))
	case uses[i].Active:
		return failed("Make another one active first: sallyport keys rotate", "key %s is the active one", id)
	case uses[i].Rows > 0:
		return failed("Seal them again first: sallyport keys rotate", "%s sealed with key %s", web.Plural(uses[i].Rows, "row is", "rows are"), id)
	}
	if next, err := w.store.Keys.Next(ctx); err != nil || next == id {
		return errorOr(err, failed("Finish it: sallyport keys rotate", "a rotation to key %s has been begun", id))
	}
	nodes, err := w.store.Keys.Nodes(ctx)
	if err != nil {
		return err
	}
	for _, n := range nodes {
		if len(n.IDs) > 0 && n.IDs[0] == id {
			return failed("Copy the key ring from here to it first.", "node %s still seals with key %s", audit.Escape(n.Node), id)
		}
	}
	if !seal.IsFile(w.source()) {
		return failed("Take its line out of "+w.source()+" yourself; only backups of the database from before still need it.", "nothing is sealed with key %s, and the key ring is not a file", id)
	}
	if err := seal.Drop(w.source(), id); err != nil {
		return err
	}
	if err := w.record(ctx, "keys.drop", map[string]string{"key": id}); err != nil {
		return err
	}
	return w.g.done(gone{id, true}, "dropped key %s; backups of the database from before the rotation still need it: keep a copy with them", id)
}

func errorOr(err, otherwise error) error {
	if err != nil {
		return err
	}
	return otherwise
}

// watchRing reads the key ring again when it has changed, and tells other nodes which keys this one has.
type watchRing struct {
	published time.Time
}

// publishEvery is how often a node says which keys it has, changed or not.
const publishEvery = time.Minute

func (r *watchRing) look(ctx context.Context, n *node) error {
	changed, err := n.Store.Keys.Reload()
	if err != nil {
		return err
	}
	if !changed && time.Since(r.published) < publishEvery {
		return nil
	}
	if changed {
		n.log.Info("the key ring was read again", "keyring", n.ring)
	}
	if err := n.Store.Keys.Publish(ctx, string(n.cfg.Node)); err != nil {
		return err
	}
	r.published = time.Now()
	return nil
}
