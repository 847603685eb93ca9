package store

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// Keys is about the keys that seal secrets: which of them are in use, and sealing again with another one.
type Keys struct{ db *db }

// sealedColumn is where sealed values are. key is the column that names the row for package seal; as is the
// table that the values are sealed for, if it is another one.
type sealedColumn struct{ table, column, key, as string }

// sealedFor is the table under whose name the values are sealed.
func (c sealedColumn) sealedFor() string { return cmp.Or(c.as, c.table) }

// sealedColumns are all of them; a test holds them against what this package seals.
var sealedColumns = []sealedColumn{
	{"ca_keys", "secret", "id", ""},
	{"live_chunks", "data", "id", ""},
	{"outbox", "content", "id", ""},
	{"radius_clients", "secret", "id", ""},
	{"radius_states", "password", "id", ""},
	{"radius_verdicts", "verdict", "digest", ""},
	{"secrets", "value", "name", ""},
	{"stock_tokens", "secret", "id", "tokens"}, // before tokens, which is where they go
	{"targets", "secret", "id", ""},
	{"tickets", "data", "secret_hash", ""},
	{"tokens", "secret", "id", ""},
	{"web_sessions", "data", "token_hash", ""},
}

// keyOf gives in SQL the id of the key of a sealed value, "v1.KEYID.BASE64".
func (c sealedColumn) keyOf() string { return "substr(" + c.column + ", 4, 8)" }

// KeyUse tells where a key is in use.
type KeyUse struct {
	ID     string
	Active bool // new values are sealed with it
	InRing bool // else what it sealed cannot be opened here
	Rows   int
	Tables map[string]int // rows by "table.column"
}

// Uses returns the keys of the ring in their order, active first, and after them any others that the
// database knows.
func (s Keys) Uses(ctx context.Context) ([]KeyUse, error) {
	type row struct {
		id   string
		rows int
	}
	found := map[string]*KeyUse{}
	var order []string
	use := func(id string) *KeyUse {
		if found[id] == nil {
			found[id] = &KeyUse{ID: id, Tables: map[string]int{}}
			order = append(order, id)
		}
		return found[id]
	}
	for i, id := range s.db.ring.IDs() {
		u := use(id)
		u.InRing, u.Active = true, i == 0
	}
	for _, c := range sealedColumns {
		err := s.db.reading(ctx, "counting what keys have sealed", func(ctx context.Context, q querier) error {
			rows, err := all(ctx, q, func(r *row) []any { return []any{&r.id, &r.rows} },
				"SELECT "+c.keyOf()+", COUNT(*) FROM "+c.table+" WHERE "+c.column+" <> '' GROUP BY 1 ORDER BY 1")
			for _, r := range rows {
				u := use(r.id)
				u.Rows += r.rows
				u.Tables[c.table+"."+c.column] += r.rows
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	uses := make([]KeyUse, 0, len(order))
	for _, id := range order {
		uses = append(uses, *found[id])
	}
	return uses, nil
}

// resealBatch is how many rows are sealed again in one transaction: few enough that logins do not wait.
const resealBatch = 100

// Pass is one way through all sealed values. The zero value stands at the beginning.
type Pass struct {
	column int
	after  string
	Moved  int     // rows that were sealed again
	Failed []error // rows that could not be opened and were left as they are
}

// Reseal seals the next few values that are not sealed with the active key once more, with it, and tells
// whether the pass is over. Each row is replaced only if it still is what was read, so that any number of
// nodes may do this at once, beside everything else, and may die at any moment: a row is always sealed
// whole, with the one key or the other.
func (s Keys) Reseal(ctx context.Context, p *Pass) (done bool, err error) {
	if p.column >= len(sealedColumns) {
		return true, nil
	}
	ids := s.db.ring.IDs()
	if len(ids) == 0 {
		return false, errors.New("sealing again: the key ring is empty")
	}
	type row struct{ key, value string }
	c, next := sealedColumns[p.column], *p
	err = s.db.changing(ctx, "sealing "+c.table+" again", func(ctx context.Context, tx querier) error {
		next = *p
		next.Failed = slices.Clone(p.Failed)
		rows, err := all(ctx, tx, func(r *row) []any { return []any{&r.key, &r.value} },
			"SELECT "+c.key+", "+c.column+" FROM "+c.table+" WHERE "+c.column+" <> '' AND "+c.keyOf()+" <> ? AND "+c.key+" > ? ORDER BY "+c.key+" LIMIT ?",
			ids[0], p.after, resealBatch)
		if err != nil {
			return err
		}
		for _, r := range rows {
			next.after = r.key
			plain, err := s.db.ring.Open(c.sealedFor(), c.column, r.key, r.value)
			if err != nil {
				next.Failed = append(next.Failed, err)
				continue
			}
			sealed, err := s.db.ring.Seal(c.sealedFor(), c.column, r.key, plain)
			if err != nil {
				return err
			}
			n, err := exec(ctx, tx, "UPDATE "+c.table+" SET "+c.column+" = ? WHERE "+c.key+" = ? AND "+c.column+" = ?", sealed, r.key, r.value)
			if err != nil {
				return err
			}
			next.Moved += int(n)
		}
		if len(rows) < resealBatch {
			next.column, next.after = next.column+1, ""
		}
		return nil
	})
	if err != nil {
		return false, err
	}
	*p = next
	return p.column >= len(sealedColumns), nil
}

// Reload reads the key ring again and tells whether it has changed.
func (s Keys) Reload() (bool, error) { return s.db.ring.Reload() }

// Names of settings about keys.
const (
	ringSettings = "keyring/"     // followed by the name of a node: the keys it has
	nextKey      = "keyring-next" // the key that is to become active on all nodes
)

// silentAfter is how long after its last word a node counts as not running.
const silentAfter = 3 * time.Minute

// NodeRing is what a running node says of its key ring.
type NodeRing struct {
	Node string    `json:"-"`
	IDs  []string  `json:"ids"` // active first
	At   time.Time `json:"at"`
}

// Publish tells the other nodes which keys this one has. It is good for some minutes.
func (s Keys) Publish(ctx context.Context, node string) error {
	text, err := toJSON(NodeRing{IDs: s.db.ring.IDs(), At: s.db.now()})
	if err != nil {
		return err
	}
	return Settings{s.db}.Set(ctx, ringSettings+node, text)
}

// Nodes returns what the nodes that run say of their key rings, by name.
func (s Keys) Nodes(ctx context.Context) ([]NodeRing, error) {
	found, err := Settings{s.db}.WithPrefix(ctx, ringSettings)
	if err != nil {
		return nil, err
	}
	var nodes []NodeRing
	for _, name := range slices.Sorted(maps.Keys(found)) {
		n := NodeRing{Node: name[len(ringSettings):]}
		if err := json.Unmarshal([]byte(found[name]), &n); err != nil {
			return nil, fmt.Errorf("reading the keys of node %s: %w", n.Node, err)
		}
		if s.db.now().Sub(n.At) < silentAfter {
			nodes = append(nodes, n)
		}
	}
	return nodes, nil
}

// Next returns the key that is to become active on all nodes, "" if none is.
func (s Keys) Next(ctx context.Context) (string, error) {
	id, _, err := Settings{s.db}.Get(ctx, nextKey)
	return id, err
}

// SetNext replaces the key that is to become active, and tells whether it still was the one before: of
// several nodes that begin a rotation at once one does.
func (s Keys) SetNext(ctx context.Context, before, id string) (bool, error) {
	return Settings{s.db}.swap(ctx, nextKey, before, id)
}
