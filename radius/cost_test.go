package radius_test

import (
	"fmt"
	"testing"

	codec "layeh.com/radius"

	"sallyport/internal/testenv"
)

// BenchmarkAccept is what an acceptance costs, client and server in one process: for -cpuprofile.
func BenchmarkAccept(b *testing.B) {
	for _, database := range []string{"sqlite", "postgres"} {
		b.Run(database, func(b *testing.B) {
			dsn := ""
			if database == "postgres" {
				dsn = testenv.Postgres(b)
			}
			w := newWorld(b, dsn)
			p := w.nodes[0].peer(b)
			alice := w.person("alice")
			for i := 0; b.Loop(); i++ {
				request := access("alice", alice.code())
				request.Identifier = byte(i)
				if got := p.ask(signed(request)); got.Code != codec.CodeAccessAccept {
					b.Fatal(fmt.Sprint(got.Code))
				}
			}
		})
	}
}
