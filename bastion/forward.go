package bastion

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"path"
	"strconv"
	"strings"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/shift"
	"sallyport/policy"
	"sallyport/session"
)

// directTCPIP is the payload of a direct-tcpip open (RFC 4254, section 7.2).
type directTCPIP struct {
	Host       string
	Port       uint32
	OriginHost string
	OriginPort uint32
}

// directStreamLocal is the payload of a direct-streamlocal@openssh.com open (OpenSSH PROTOCOL, 2.4).
type directStreamLocal struct {
	Path      string
	Reserved  string
	Reserved2 uint32
}

// forward opens the session if this is the connection's first channel, and carries a connection that the
// client wants through the target. One to the SSH port of a target ends here instead.
func (c *connection) forward(nc ssh.NewChannel, alone bool) {
	asked, err := parseForward(nc)
	if err != nil {
		_ = nc.Reject(ssh.ConnectionFailed, err.Error())
		c.reportRefused(err.Error(), "channel-type", nc.ChannelType())
		return
	}
	if cert := c.id.Certificate; cert != nil && !cert.Forward { // not even to a target that is answered here
		c.turnAway(nc, asked.To, "Your certificate does not permit this: it has no permit-port-forwarding.")
		return
	}
	if nc.ChannelType() == "direct-tcpip" && c.jump(nc, asked.To, alone) {
		return
	}
	s, refusal := c.open("forward to " + asked.To)
	if s == nil {
		_ = nc.Reject(ssh.Prohibited, refusal)
		return
	}
	c.afterAsking()
	s.Forward(nc, asked)
}

func parseForward(nc ssh.NewChannel) (session.Asked, error) {
	if nc.ChannelType() == "direct-streamlocal@openssh.com" {
		var p directStreamLocal
		if ssh.Unmarshal(nc.ExtraData(), &p) != nil || !strings.HasPrefix(p.Path, "/") || len(p.Path) > 255 || strings.ContainsRune(p.Path, 0) {
			return session.Asked{}, errors.New("the socket must be named by its whole path")
		}
		if clean := strings.TrimPrefix(path.Clean(p.Path), "/var"); strings.HasPrefix(clean, "/run/ssh-unix-local/") { // of systemd-ssh-generator(8)
			return session.Asked{}, errors.New(p.Path + " is the SSH server of the target, which is never forwarded to: use ssh user@target@bastion instead")
		}
		return session.Asked{Kinds: []string{policy.UnixForward}, To: p.Path, Payload: func(string) []byte { return ssh.Marshal(p) }}, nil
	}
	var p directTCPIP
	if ssh.Unmarshal(nc.ExtraData(), &p) != nil || p.Port == 0 || p.Port > 65535 {
		return session.Asked{}, errors.New("the request for a forward is malformed")
	}
	host, err := normalHost(p.Host)
	if err != nil {
		return session.Asked{}, err
	}
	return session.Asked{
		// The channel says the same for ssh -L and ssh -D, so either word of a rule allows it.
		Kinds: []string{policy.LocalForward, policy.Dynamic},
		To:    net.JoinHostPort(host, strconv.Itoa(int(p.Port))),
		Payload: func(to string) []byte {
			p.Host, _, _ = net.SplitHostPort(to)
			return ssh.Marshal(p)
		},
	}, nil
}

// normalHost gives a name without the last dot, or an address in the form that everybody reads alike.
// The target would take 127.1, 0x7f000001 and ::ffff:127.0.0.1 for one address; so must the rules.
func normalHost(host string) (string, error) {
	if addr, err := netip.ParseAddr(host); err == nil {
		if addr.Zone() != "" {
			return "", errors.New("an address with a zone cannot be forwarded to")
		}
		return addr.Unmap().String(), nil
	}
	if addr, ok := numericAddr(host); ok {
		return addr.String(), nil
	}
	host = strings.TrimSuffix(host, ".")
	other := func(r rune) bool {
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || r == '-' || r == '_' || r == '.')
	}
	if host == "" || len(host) > 253 || strings.ContainsFunc(host, other) {
		return "", errors.New("the host to forward to is neither a name nor an address")
	}
	return host, nil
}

// numericAddr reads the forms of IPv4 addresses that inet_aton(3) knows: one to four numbers, each
// decimal, octal or hexadecimal, the last of which fills what is left.
func numericAddr(host string) (netip.Addr, bool) {
	parts := strings.Split(host, ".")
	if len(parts) > 4 {
		return netip.Addr{}, false
	}
	var v uint64
	for i, part := range parts {
		if part == "" || strings.ContainsAny(part, "_obOB") && !strings.HasPrefix(strings.ToLower(part), "0x") || strings.Contains(part, "_") {
			return netip.Addr{}, false
		}
		n, err := strconv.ParseUint(part, 0, 32)
		if err != nil {
			return netip.Addr{}, false
		}
		if i == len(parts)-1 {
			if n >= 1<<(8*(5-len(parts))) {
				return netip.Addr{}, false
			}
			v |= n
		} else if n > 255 {
			return netip.Addr{}, false
		} else {
			v |= n << (8 * (3 - i))
		}
	}
	return netip.AddrFrom4([4]byte{byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)}), true
}

// authorizeForward asks the rules for one channel. A destination that they allow is then held against
// what no rule can allow: to is where the forward goes instead of the name that was asked for.
func (c *connection) authorizeForward(ctx context.Context, target, kind, to string, g session.Grant) session.Grant {
	if !g.Allowed || kind != policy.LocalForward && kind != policy.Dynamic {
		return g
	}
	host, port, err := net.SplitHostPort(to)
	n, err2 := strconv.ParseUint(port, 10, 16)
	if err != nil || err2 != nil {
		return session.Grant{Denied: true, Refusal: "the destination cannot be read"}
	}
	instead, refusal := c.s.destination(ctx, target, host, uint16(n))
	if refusal != "" {
		return session.Grant{Denied: true, Refusal: refusal}
	}
	if instead != host {
		g.To = net.JoinHostPort(instead, port)
	}
	return g
}

// isForward tells the types of channels by which a client asks for a forward.
func isForward(kind string) bool {
	return kind == "direct-tcpip" || kind == "direct-streamlocal@openssh.com"
}

// globalRequests begins to answer what clients ask of the connection as a whole, in order (RFC 4254, section 4).
// Requests and channels come by two ways; a channel that waits in [connection.inOrder] goes on when the
// requests that came before it are done.
func (c *connection) globalRequests(reqs <-chan *ssh.Request) {
	q := &requests{c: c}
	c.requests = shift.New(func() {
		for !c.requests.Rests() {
			select {
			case r, ok := <-reqs:
				if !ok {
					if q.busy != nil {
						<-q.busy // it ends with the connection
					}
					close(c.requestsOver)
					return
				}
				q.take(r)
			case <-q.busy: // nil while nothing is under way
				q.busy = nil
				q.goOn()
			case passed := <-c.barrier:
				c.barriers.Add(-1)
				for n := len(reqs); n > 0; n-- {
					if r, ok := <-reqs; ok {
						q.take(r)
					}
				}
				if q.busy == nil {
					close(passed)
				} else {
					q.passed = append(q.passed, passed)
				}
			}
		}
	}, shift.Requests(c.conn.Conn), func(func()) bool { return c.barriers.Load() == 0 && q.busy == nil })
	c.requests.Call()
}

// requests is the global requests of a connection that are not answered yet. To have the target listen can take as long
// as an approval does. Answers have no number, and go out in the order of their requests, so that what comes meanwhile
// has to wait for its own; but a client that asks whether anybody is there gets a sign of life at once.
type requests struct {
	c      *connection
	busy   chan struct{} // closed when the request that is under way is done; nil: there is none
	queue  []request
	passed []chan struct{} // closed when the queue is empty
}

// request is one that waits for its turn, or so many in a row that are refused, whatever they are.
type request struct {
	*ssh.Request
	refused int
}

// signOfLife is a request that wants no answer, and that every client ignores.
const signOfLife = "keepalive@openssh.com"

func (q *requests) take(r *ssh.Request) {
	if q.busy == nil {
		q.begin(r)
		return
	}
	n := len(q.queue)
	switch {
	case isListen(r.Type):
		q.queue = append(q.queue, request{Request: r})
	case !r.WantReply:
		return
	case n > 0 && q.queue[n-1].refused > 0: // a client may ask for as long as an approval is waited for
		q.queue[n-1].refused++
	default:
		q.queue = append(q.queue, request{r, 1})
	}
	if r.WantReply {
		_, _, _ = q.c.conn.SendRequest(signOfLife, false, nil)
	}
	if n >= maxQueuedRequests {
		q.c.conn.Close() // no client has the target listen so often
	}
}

// maxQueuedRequests bounds what waits for its turn.
const maxQueuedRequests = 1000

// begin answers a request, or has it under way.
func (q *requests) begin(r *ssh.Request) {
	if !isListen(r.Type) {
		q.c.globalRequest(r)
		return
	}
	done := make(chan struct{})
	q.busy = done
	go func() {
		defer close(done)
		q.c.globalRequest(r)
	}()
}

// goOn answers what has waited, up to the next request that takes long.
func (q *requests) goOn() {
	for q.busy == nil && len(q.queue) > 0 {
		r := q.queue[0]
		q.queue = q.queue[1:]
		if r.refused == 0 {
			q.begin(r.Request)
		}
		for range r.refused {
			_ = r.Reply(false, nil)
		}
	}
	if q.busy == nil {
		for _, passed := range q.passed {
			close(passed)
		}
		q.passed = nil
	}
}

// isListen tells the requests by which a client has the target listen, or stop that.
func isListen(kind string) bool {
	switch kind {
	case "tcpip-forward", "streamlocal-forward@openssh.com", "cancel-tcpip-forward", "cancel-streamlocal-forward@openssh.com":
		return true
	}
	return false
}

// inOrder returns when the global requests that came before are done.
// A channel that would wait for an approval with them does not: it tells the person, and comes back.
func (c *connection) inOrder() { c.afterRequests(c.asked) }

// afterRequests is inOrder, or returns when unless is closed.
func (c *connection) afterRequests(unless <-chan struct{}) {
	passed := make(chan struct{})
	c.barriers.Add(1)
	c.requests.Call()
	select {
	case c.barrier <- passed:
		select {
		case <-passed:
		case <-c.requestsOver:
		case <-unless:
		}
	case <-c.requestsOver:
	case <-unless:
		c.barriers.Add(-1)
	}
}

func (c *connection) globalRequest(r *ssh.Request) {
	switch {
	case !isListen(r.Type):
	case c.robot():
		c.reportRefused("a robot runs commands and nothing else", "request", r.Type)
	default:
		if s, _ := c.open("remote forward"); s != nil {
			s.ListenRequest(r)
			return
		}
		c.reportRefused("no session could be opened for a remote forward", "request", r.Type)
	}
	if r.WantReply {
		_ = r.Reply(false, nil) // for a keepalive, any answer is a sign of life
	}
}
