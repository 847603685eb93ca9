package radius_test

import (
	"database/sql"
	"strings"
	"testing"
	"time"

	codec "layeh.com/radius"

	"sallyport/internal/testenv"
	"sallyport/store"
)

// TestClientThatCannotBeRead: one client whose secret could not be opened (its sealing key is gone) made every reading
// of the list fail. Then none was known after a start; and on a node that ran, the list of before counted without end,
// so that a client was answered that had been disabled meanwhile.
func TestClientThatCannotBeRead(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	alice := w.person("alice")
	_, err := w.Store.RadiusClients.Add(t.Context(), store.RadiusClient{
		Name: "other", Networks: []string{"192.0.2.1/32"}, Mode: store.RadiusCode, MessageAuthenticator: store.AuthenticatorYes, Enabled: true,
	}, store.SharedSecret(secret))
	check(t, err)
	db, err := sql.Open("sqlite", "file:"+strings.TrimPrefix(w.dsn, "sqlite:")+"?_pragma=busy_timeout(60000)")
	check(t, err)
	defer db.Close()
	_, err = db.ExecContext(t.Context(), "UPDATE radius_clients SET secret = 'nonsense' WHERE name = 'other'")
	check(t, err)

	p := w.nodes[0].peer(t)
	if a := p.ask(signed(access("alice", alice.code()))); a.Code != codec.CodeAccessAccept {
		t.Errorf("beside a client that cannot be read: %v", a.Code)
	}
	_, err = w.Store.RadiusClients.Change(t.Context(), "vpn", func(c *store.RadiusClient) (store.SharedSecret, error) {
		c.Enabled = false
		return nil, nil
	})
	check(t, err)
	testenv.WaitFor(t, "the client that was disabled not to be answered", func() bool {
		p.send(signed(access("alice", alice.code())))
		return p.receive(500*time.Millisecond) == nil
	})
}
