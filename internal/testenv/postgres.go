// Package testenv starts the real services that tests run against: PostgreSQL, slapd, sshd and the
// OpenSSH client. A service that is not installed fails the test, with what to install.
package testenv

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	_ "github.com/lib/pq"
)

// Postgres returns the DSN of a fresh, empty database that is dropped when the test ends. All tests
// of a process share one server, which ends with the process, however that ends. If
// TEST_POSTGRES_DSN is set, the database is made on that server instead.
func Postgres(t testing.TB) string {
	t.Helper()
	admin := os.Getenv("TEST_POSTGRES_DSN")
	if admin == "" {
		s, err := sharedServer()
		if err != nil {
			t.Fatal(err)
		}
		admin = s.dsn("postgres")
	}
	return freshDatabase(t, admin, "template0")
}

// PostgresFrom is [Postgres] for a database that is not empty: it is as prepare makes an empty one, of
// which it closes all connections. prepare is called once in a process, the first one for all tests; on
// the server of TEST_POSTGRES_DSN, where nothing may be left, for each test.
func PostgresFrom(t testing.TB, prepare func(dsn string) error) string {
	t.Helper()
	if os.Getenv("TEST_POSTGRES_DSN") != "" {
		dsn := Postgres(t)
		if err := prepare(dsn); err != nil {
			t.Fatalf("preparing a database: %v", err)
		}
		return dsn
	}
	s, err := sharedServer()
	if err != nil {
		t.Fatal(err)
	}
	prepared.Do(func() {
		administer(t, s.dsn("postgres"), "CREATE DATABASE "+preparedName+" TEMPLATE template0 ENCODING 'UTF8'")
		preparedErr = prepare(s.dsn(preparedName))
	})
	if preparedErr != nil {
		t.Fatalf("preparing a database: %v", preparedErr)
	}
	return freshDatabase(t, s.dsn("postgres"), preparedName)
}

// The database that PostgresFrom copies.
const preparedName = "sallyport_prepared"

var (
	prepared    sync.Once
	preparedErr = errors.New("the test that was to prepare it has failed")
)

var sharedServer = sync.OnceValues(func() (*server, error) { return newServer("-F") })

// databases counts those of this process.
var databases atomic.Int64

// freshDatabase makes a copy of template next to the database of admin.
func freshDatabase(t testing.TB, admin, template string) string {
	t.Helper()
	u, err := url.Parse(admin)
	if err != nil {
		t.Fatalf("reading TEST_POSTGRES_DSN: %v", err)
	}
	name := fmt.Sprintf("sallyport_%d_%d_%d", os.Getpid(), time.Now().UnixNano(), databases.Add(1))
	administer(t, admin, "CREATE DATABASE "+name+" TEMPLATE "+template+" ENCODING 'UTF8'")
	t.Cleanup(func() { administer(t, admin, "DROP DATABASE "+name+" WITH (FORCE)") })
	u.Path = "/" + name
	return u.String()
}

func administer(t testing.TB, dsn, statement string) {
	t.Helper()
	db, err := sql.Open("postgres", dsn)
	if err != nil {
		t.Fatalf("connecting to the test server: %v", err)
	}
	defer db.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if _, err := db.ExecContext(ctx, statement); err != nil {
		t.Fatalf("on the test server: %s: %v", statement, err)
	}
}

// PG is a PostgreSQL server of one test, for outages.
type PG struct {
	t testing.TB
	s *server
}

// PostgresServer starts a server that belongs to t alone and ends with it.
func PostgresServer(t testing.TB) *PG {
	t.Helper()
	s, err := newServer("-F")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.remove)
	return &PG{t, s}
}

// DSN returns the DSN of the server's database "postgres", the same one after every start.
func (p *PG) DSN() string { return p.s.dsn("postgres") }

// Stop ends the server at once, as kill -9 or a power cut would (pg_ctl stop -m immediate).
func (p *PG) Stop() {
	p.t.Helper()
	if err := p.s.stop(); err != nil {
		p.t.Fatal(err)
	}
}

// Start starts the stopped server and returns when it answers.
func (p *PG) Start() {
	p.t.Helper()
	if err := p.s.start(); err != nil {
		p.t.Fatal(err)
	}
}

// Freeze stops all processes of the server in the middle of what they do: connections stay open,
// new ones are taken by the kernel, and nothing is answered. Thaw ends it.
func (p *PG) Freeze() {
	p.t.Helper()
	if err := p.s.signal(syscall.SIGSTOP); err != nil {
		p.t.Fatal(err)
	}
}

// Thaw lets a frozen server go on.
func (p *PG) Thaw() {
	p.t.Helper()
	if err := p.s.signal(syscall.SIGCONT); err != nil {
		p.t.Fatal(err)
	}
}

// server is a PostgreSQL server with its files in one folder.
type server struct {
	bin     string // folder of the programs
	dir     string
	options []string
	runAs   *syscall.Credential // nil: as we are

	keeper *exec.Cmd // nil while stopped
	stdin  io.WriteCloser
}

// keep is run by sh, starts the server, and stops it on a line or the end of its input. The end
// comes when the test process ends in whatever way, and then the files go, too.
const keep = `
bin=$1 dir=$2; shift 2
"$bin/postgres" -D "$dir/data" -k "$dir" -c listen_addresses= "$@" >>"$dir/log" 2>&1 </dev/null &
pid=$!
read line
kill -QUIT $pid 2>/dev/null
kill -CONT $pid 2>/dev/null
wait $pid
[ "$line" = stay ] || rm -rf "$dir"
`

func newServer(options ...string) (*server, error) {
	s := &server{options: append(options, "-c", "full_page_writes=off", "-c", "max_connections=300",
		"-c", "shared_buffers=32MB")}
	var err error
	if s.bin, err = postgresPrograms(); err != nil {
		return nil, err
	}
	if s.runAs, err = postgresUser(); err != nil {
		return nil, err
	}
	// Short, because the path of a unix socket is; not t.TempDir, because another user owns it.
	if s.dir, err = os.MkdirTemp("/tmp", "sallyport-pg-"); err != nil {
		return nil, err
	}
	if s.runAs != nil {
		if err := os.Chown(s.dir, int(s.runAs.Uid), int(s.runAs.Gid)); err != nil {
			return nil, err
		}
	}
	initdb := s.command(filepath.Join(s.bin, "initdb"), "-D", filepath.Join(s.dir, "data"), "-U", "postgres",
		"-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
	if out, err := initdb.CombinedOutput(); err != nil {
		os.RemoveAll(s.dir)
		return nil, fmt.Errorf("making a PostgreSQL server: initdb: %w\n%s", err, out)
	}
	if err := s.start(); err != nil {
		s.remove()
		return nil, err
	}
	return s, nil
}

// postgresPrograms returns the folder of initdb and postgres, which Debian keeps off the path.
func postgresPrograms() (string, error) {
	if path, err := exec.LookPath("initdb"); err == nil {
		return filepath.Dir(path), nil
	}
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if len(found) == 0 {
		return "", errors.New("PostgreSQL is needed: install the package postgresql, or set TEST_POSTGRES_DSN")
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

func (s *server) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Dir = s.dir
	cmd.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C"}
	// A group of its own, so that ^C in the terminal reaches the test first.
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.runAs, Setpgid: true}
	return cmd
}

func (s *server) dsn(database string) string {
	return "postgres://postgres@/" + database + "?sslmode=disable&host=" + url.QueryEscape(s.dir)
}

func (s *server) start() error {
	keeper := s.command("/bin/sh", slices.Concat([]string{"-c", keep, "sh", s.bin, s.dir}, s.options)...)
	stdin, err := keeper.StdinPipe()
	if err != nil {
		return fmt.Errorf("starting PostgreSQL: %w", err)
	}
	if err := keeper.Start(); err != nil {
		return fmt.Errorf("starting PostgreSQL: %w", err)
	}
	s.keeper, s.stdin = keeper, stdin
	db, err := sql.Open("postgres", s.dsn("postgres"))
	if err != nil {
		return fmt.Errorf("starting PostgreSQL: %w", err)
	}
	defer db.Close()
	for end := time.Now().Add(time.Minute); ; {
		err := db.Ping()
		if err == nil {
			return nil
		}
		if time.Now().After(end) {
			log, _ := os.ReadFile(filepath.Join(s.dir, "log"))
			return fmt.Errorf("PostgreSQL does not start: %w\n%s", err, log)
		}
		time.Sleep(20 * time.Millisecond) // between two looks at another process
	}
}

// stop ends the server and keeps its files.
func (s *server) stop() error {
	if s.keeper == nil {
		return nil
	}
	_, err := io.WriteString(s.stdin, "stay\n")
	err = errors.Join(err, s.stdin.Close(), s.keeper.Wait())
	s.keeper = nil
	if err != nil {
		// 2: wait reports how the server ended, not the keeper
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			return fmt.Errorf("stopping PostgreSQL: %w", err)
		}
	}
	return nil
}

// remove ends the server and deletes its files.
func (s *server) remove() {
	if s.keeper != nil {
		s.stdin.Close()
		_ = s.keeper.Wait()
		s.keeper = nil
	}
	os.RemoveAll(s.dir)
}

// signal sends a signal to the server's processes, the first one first.
func (s *server) signal(sig syscall.Signal) error {
	text, err := os.ReadFile(filepath.Join(s.dir, "data", "postmaster.pid"))
	if err != nil {
		return fmt.Errorf("finding PostgreSQL: %w", err)
	}
	first, _, _ := strings.Cut(string(text), "\n")
	pid, err := strconv.Atoi(first)
	if err != nil {
		return fmt.Errorf("finding PostgreSQL: %w", err)
	}
	for _, p := range append([]int{pid}, childrenOf(pid)...) {
		if err := syscall.Kill(p, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("signalling PostgreSQL: %w", err)
		}
	}
	return nil
}

// childrenOf returns the processes whose parent is pid.
func childrenOf(pid int) []int {
	var children []int
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		// pid (name) state ppid …, and the name may hold anything
		fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
		child, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err == nil && len(fields) > 1 && fields[1] == strconv.Itoa(pid) {
			children = append(children, child)
		}
	}
	return children
}
