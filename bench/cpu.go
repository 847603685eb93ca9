package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// tick is the unit of times in /proc/PID/stat: USER_HZ is 100 on every architecture Go runs on with Linux.
const tick = 10 * time.Millisecond

// usage is what /proc/PID/stat says about a process.
type usage struct {
	pid, parent int
	state       byte
	cpu         time.Duration // user and system, of itself and of the children it has waited for
}

// parseStat reads the text of /proc/PID/stat (proc(5)).
func parseStat(text string) (usage, error) {
	// The second field is the name in parentheses, which may itself hold spaces and parentheses.
	open, end := strings.IndexByte(text, '('), strings.LastIndexByte(text, ')')
	if open < 0 || end < open {
		return usage{}, fmt.Errorf("no name in %q", text)
	}
	const (
		state  = 3 // numbers of fields as in proc(5)
		parent = 4
		utime  = 14
		cstime = 17
	)
	rest := append(make([]string, state), strings.Fields(text[end+1:])...)
	if len(rest) <= cstime {
		return usage{}, fmt.Errorf("too few fields in %q", text)
	}
	var u usage
	var err error
	if u.pid, err = strconv.Atoi(strings.TrimSpace(text[:open])); err != nil {
		return usage{}, fmt.Errorf("reading process id: %w", err)
	}
	if u.parent, err = strconv.Atoi(rest[parent]); err != nil {
		return usage{}, fmt.Errorf("reading parent of %d: %w", u.pid, err)
	}
	u.state = rest[state][0]
	for _, field := range rest[utime : cstime+1] {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return usage{}, fmt.Errorf("reading times of %d: %w", u.pid, err)
		}
		u.cpu += time.Duration(n) * tick
	}
	return u, nil
}

// processes reads all processes of this machine.
func processes() (map[int]usage, error) {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("listing processes: %w", err)
	}
	all := make(map[int]usage, len(names))
	for _, name := range names {
		if name[0] < '0' || name[0] > '9' {
			continue
		}
		text, err := os.ReadFile("/proc/" + name + "/stat")
		if gone(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		u, err := parseStat(string(text))
		if err != nil {
			return nil, err
		}
		all[u.pid] = u
	}
	return all, nil
}

// gone tells that a process ended while it was looked at.
func gone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH)
}

// below lists the children of root, their children and so on.
func below(all map[int]usage, root int) []usage {
	children := map[int][]usage{}
	for _, u := range all {
		children[u.parent] = append(children[u.parent], u)
	}
	list := children[root]
	for i := 0; i < len(list); i++ {
		list = append(list[:len(list):len(list)], children[list[i].pid]...)
	}
	return list
}

// proxy is what stands between client and target: one process and those it starts.
type proxy struct{ server *process }

// load gives the CPU time of the proxy so far and how many processes work for connections.
func (x *proxy) load() (cpu time.Duration, running int, err error) {
	all, err := processes()
	if err != nil {
		return 0, 0, err
	}
	root, ok := all[x.server.pid()]
	if !ok || root.state == 'Z' {
		return 0, 0, fmt.Errorf("%s has died", x.server.cmd.Path)
	}
	cpu = root.cpu
	list := below(all, root.pid)
	for _, u := range list {
		cpu += u.cpu
	}
	return cpu, len(list), nil
}

// settled waits until the last session has ended and the proxy is at rest, and gives its CPU time so far.
func (x *proxy) settled(ctx context.Context) (time.Duration, error) {
	const rest = 150 * time.Millisecond
	last, since := time.Duration(-1), time.Now()
	err := poll("the proxy to come to rest", 30*time.Second, func() (bool, error) {
		cpu, running, err := x.load()
		if err != nil {
			return false, err
		}
		if cpu != last || running > 0 {
			last, since = cpu, time.Now()
		}
		return time.Since(since) >= rest, ctx.Err()
	})
	return last, err
}

// cost runs do and gives the CPU time that the proxy spent on it, all that ends sessions included, and how
// long do took. Without a proxy the first is zero.
func (p *peer) cost(ctx context.Context, do func() error) (cpu, wall time.Duration, err error) {
	before := time.Duration(0)
	if p.proxy != nil {
		if before, err = p.proxy.settled(ctx); err != nil {
			return 0, 0, err
		}
	}
	begun := time.Now()
	if err := do(); err != nil {
		return 0, 0, err
	}
	wall = time.Since(begun)
	if p.proxy == nil {
		return 0, wall, nil
	}
	after, err := p.proxy.settled(ctx)
	if err != nil {
		return 0, 0, err
	}
	if after <= before {
		return 0, 0, fmt.Errorf("the proxy used no CPU time that its clock shows; measure something longer")
	}
	return after - before, wall, nil
}
