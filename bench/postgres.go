package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// postgreSQL is a server with its files in one folder, set up as Debian sets it up: what was committed is on the disk.
type postgreSQL struct {
	dir    string
	server *process
}

// startPostgres starts a server that listens on a socket in its folder and nowhere else.
func startPostgres(ctx context.Context) (*postgreSQL, error) {
	bin, err := postgresPrograms()
	if err != nil {
		return nil, err
	}
	as, err := postgresUser()
	if err != nil {
		return nil, err
	}
	// Apart from the files of everybody else: it may belong to another user, and the path of a socket is short.
	p := &postgreSQL{}
	if p.dir, err = os.MkdirTemp("", "sallyport-pg-"); err != nil {
		return nil, err
	}
	if err = p.start(ctx, bin, as); err != nil {
		p.stop()
		return nil, fmt.Errorf("starting PostgreSQL: %w", err)
	}
	return p, nil
}

func (p *postgreSQL) start(ctx context.Context, bin string, as *syscall.Credential) error {
	if as != nil {
		if err := os.Chown(p.dir, int(as.Uid), int(as.Gid)); err != nil {
			return err
		}
	}
	data := filepath.Join(p.dir, "data")
	command := func(name string, args ...string) *exec.Cmd {
		cmd := exec.CommandContext(ctx, filepath.Join(bin, name), args...)
		cmd.Dir, cmd.Env = p.dir, []string{"PATH=/usr/bin:/bin", "LC_ALL=C"}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as}
		return cmd
	}
	if out, err := command("initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C").CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w\n%s", err, out)
	}
	log, err := os.Create(filepath.Join(p.dir, "log"))
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := command("postgres", "-D", data, "-k", p.dir, "-c", "listen_addresses=")
	cmd.Stdout, cmd.Stderr = log, log
	if p.server, err = start(cmd); err != nil {
		return err
	}
	return poll("PostgreSQL to answer", 30*time.Second, func() (bool, error) {
		text, err := os.ReadFile(log.Name())
		select {
		case <-p.server.exited:
			return false, fmt.Errorf("it ended at once: %s", text)
		default:
			return strings.Contains(string(text), "ready to accept connections"), errors.Join(err, ctx.Err())
		}
	})
}

// dsn is the URL of a database that nothing else uses.
func (p *postgreSQL) dsn() string {
	return "postgres://postgres@/postgres?sslmode=disable&host=" + url.QueryEscape(p.dir)
}

func (p *postgreSQL) stop() {
	if p == nil {
		return
	}
	if p.server != nil {
		_ = p.server.cmd.Process.Signal(syscall.SIGINT) // ends those who are connected, too
		p.server.stop(10 * time.Second)
	}
	_ = os.RemoveAll(p.dir)
}

// postgresPrograms returns the folder of initdb and postgres, which Debian keeps off the path.
func postgresPrograms() (string, error) {
	if path, err := exec.LookPath("initdb"); err == nil {
		return filepath.Dir(path), nil
	}
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if len(found) == 0 {
		return "", errors.New("PostgreSQL is needed: install the package postgresql")
	}
	return filepath.Dir(found[len(found)-1]), nil
}

// postgresUser returns whom the server runs as: it refuses to run as root.
func postgresUser() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		return nil, fmt.Errorf("PostgreSQL does not run as root: %w", err)
	}
	uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
	gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, errors.Join(err1, err2)
}
