package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"
)

// files serves SFTP on the scratch folder, which is the whole world to the client.
func (s *targetSession) files() {
	defer s.ch.Close()
	root, err := os.OpenRoot(s.target.files)
	if err != nil {
		fmt.Fprintf(s.ch.Stderr(), "demo: opening the scratch folder: %v\r\n", err)
		return
	}
	defer root.Close()
	h := &scratch{root: root}
	server := sftp.NewRequestServer(s.ch, sftp.Handlers{FileGet: h, FilePut: h, FileCmd: h, FileList: h})
	status := uint32(0)
	if err := server.Serve(); err != nil && !errors.Is(err, io.EOF) {
		status = 1
	}
	_ = server.Close()
	_ = s.ch.CloseWrite()
	_, _ = s.ch.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{status}))
}

// scratch obeys SFTP requests within one folder; neither dots nor symbolic links lead out of it.
type scratch struct{ root *os.Root }

// inside turns the path of a request into one relative to the root.
func inside(p string) string {
	if rel := strings.TrimPrefix(path.Clean("/"+p), "/"); rel != "" {
		return rel
	}
	return "."
}

// Fileread implements sftp.FileReader.
func (h *scratch) Fileread(r *sftp.Request) (io.ReaderAt, error) {
	return h.open(r.Filepath, os.O_RDONLY)
}

// Filewrite implements sftp.FileWriter.
func (h *scratch) Filewrite(r *sftp.Request) (io.WriterAt, error) {
	return h.open(r.Filepath, writeFlags(r)|os.O_WRONLY)
}

// OpenFile implements sftp.OpenFileWriter, for handles that read and write.
func (h *scratch) OpenFile(r *sftp.Request) (sftp.WriterAtReaderAt, error) {
	return h.open(r.Filepath, writeFlags(r)|os.O_RDWR)
}

// writeFlags leaves out O_APPEND, which does not go with WriteAt; clients send offsets anyway.
func writeFlags(r *sftp.Request) int {
	asked, flags := r.Pflags(), 0
	if asked.Creat {
		flags |= os.O_CREATE
	}
	if asked.Trunc {
		flags |= os.O_TRUNC
	}
	if asked.Excl {
		flags |= os.O_EXCL
	}
	return flags
}

// open opens regular files only: a named pipe would hold up the server.
func (h *scratch) open(p string, flags int) (*os.File, error) {
	name := inside(p)
	if info, err := h.root.Stat(name); err == nil && !info.Mode().IsRegular() {
		return nil, &fs.PathError{Op: "open", Path: p, Err: errors.New("not a regular file")}
	}
	return h.root.OpenFile(name, flags, 0o644)
}

// Filecmd implements sftp.FileCmder.
func (h *scratch) Filecmd(r *sftp.Request) error {
	name := inside(r.Filepath)
	switch r.Method {
	case "Setstat":
		return h.setstat(name, r)
	case "Rename":
		to := inside(r.Target)
		if _, err := h.root.Lstat(to); err == nil {
			return fs.ErrExist
		}
		return h.root.Rename(name, to)
	case "Rmdir":
		if info, err := h.root.Lstat(name); err == nil && !info.IsDir() {
			return errors.New("not a folder")
		}
		return h.root.Remove(name)
	case "Remove":
		if info, err := h.root.Lstat(name); err == nil && info.IsDir() {
			return errors.New("is a folder")
		}
		return h.root.Remove(name)
	case "Mkdir":
		return h.root.Mkdir(name, 0o755)
	default: // links: nothing here needs them
		return sftp.ErrSSHFxOpUnsupported
	}
}

// PosixRename implements sftp.PosixRenameFileCmder: an existing file is replaced.
func (h *scratch) PosixRename(r *sftp.Request) error {
	return h.root.Rename(inside(r.Filepath), inside(r.Target))
}

// setstat changes size, mode and times; the owner stays who started the demo.
func (h *scratch) setstat(name string, r *sftp.Request) error {
	given, attrs := r.AttrFlags(), r.Attributes()
	if given.Size {
		f, err := h.open(name, os.O_WRONLY)
		if err != nil {
			return err
		}
		if err := errors.Join(f.Truncate(int64(attrs.Size)), f.Close()); err != nil {
			return err
		}
	}
	if given.Permissions {
		if err := h.root.Chmod(name, attrs.FileMode().Perm()); err != nil {
			return err
		}
	}
	if given.Acmodtime {
		return h.root.Chtimes(name, attrs.AccessTime(), attrs.ModTime())
	}
	return nil
}

// Filelist implements sftp.FileLister.
func (h *scratch) Filelist(r *sftp.Request) (sftp.ListerAt, error) {
	name := inside(r.Filepath)
	switch r.Method {
	case "List":
		dir, err := h.root.Open(name)
		if err != nil {
			return nil, err
		}
		defer dir.Close()
		infos, err := dir.Readdir(-1)
		return listing(infos), err
	case "Stat":
		info, err := h.root.Stat(name)
		return listing{info}, err
	default:
		return nil, sftp.ErrSSHFxOpUnsupported
	}
}

// Lstat implements sftp.LstatFileLister.
func (h *scratch) Lstat(r *sftp.Request) (sftp.ListerAt, error) {
	info, err := h.root.Lstat(inside(r.Filepath))
	return listing{info}, err
}

// listing is a list of files that was read at once.
type listing []fs.FileInfo

// ListAt implements sftp.ListerAt.
func (l listing) ListAt(into []fs.FileInfo, offset int64) (int, error) {
	if offset >= int64(len(l)) {
		return 0, io.EOF
	}
	n := copy(into, l[offset:])
	if n < len(into) {
		return n, io.EOF
	}
	return n, nil
}
