package sql

import (
	"bytes"
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"regexp"
	"strings"
	"time"
	"unicode"

	"github.com/pressly/goose/v3"
)

// script is a pending migration, read and parsed.
type script struct {
	file
	text       []byte
	statements []string // as goose will send them

	// inside: goose runs it in a transaction. atomic: besides, the engine can
	// take everything back that it did there.
	inside, atomic bool
}

// parse lets goose run a file against a database that only writes down what it
// is told: so what is judged beforehand is exactly what will be sent later.
func parse(f file, text []byte, transactional bool) (script, error) {
	s := script{file: f, text: bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n"))}
	if line := expands(s.text); line > 0 {
		return s, fmt.Errorf("line %d: ENVSUB would put the agent's own environment into it, and so make it another migration on every host; write the values out", line)
	}
	if !upward.Match(s.text) {
		return s, errors.New("it has no line -- +goose Up, which goose's files begin with")
	}
	rec := &recorder{}
	db := sql.OpenDB(rec)
	defer db.Close()
	p, err := provider(goose.DialectSQLite3, db, s, goose.WithDisableVersioning(true))
	if err != nil {
		return s, err
	}
	if _, err = p.ApplyVersion(context.Background(), f.version, true); err != nil {
		return s, unparsed(err)
	}
	s.statements, s.inside = rec.statements, rec.inside
	s.atomic = s.inside && transactional
	if s.atomic {
		for _, stmt := range s.statements {
			if word := leaves(stmt); word != "" {
				return s, fmt.Errorf("line %d: %s ends the transaction that the migration runs in; take it out, or write -- +goose NO TRANSACTION", s.line(stmt), word)
			}
		}
	}
	return s, nil
}

// provider is goose for one file, without what others have registered.
func provider(dialect goose.Dialect, db *sql.DB, s script, opts ...goose.ProviderOption) (*goose.Provider, error) {
	opts = append(opts, goose.WithDisableGlobalRegistry(true))
	return goose.NewProvider(dialect, db, oneFile{s.name, s.text}, opts...)
}

// unparsed is goose's complaint without the layers it is wrapped in.
func unparsed(err error) error {
	msg := err.Error()
	for _, layer := range []string{"failed to parse migration: ", ": failed to parse "} {
		if i := strings.LastIndex(msg, layer); i >= 0 {
			msg = msg[i+len(layer):]
		}
	}
	if i := strings.Index(msg, "unexpected unfinished"); i >= 0 {
		msg = msg[i:]
	}
	return errors.New(shorten(msg))
}

var upward = regexp.MustCompile(`(?mi)^-- *\+goose +up *$`)

// expands is the line that asks goose to put variables of the environment in.
func expands(text []byte) int {
	n := 0
	for line := range bytes.Lines(text) {
		n++
		if bytes.HasPrefix(bytes.TrimSpace(line), []byte("--")) && bytes.Contains(line, []byte("+goose")) &&
			strings.Contains(strings.ToUpper(string(line)), "ENVSUB ON") {
			return n
		}
	}
	return 0
}

// line is where a statement begins in the file; 0 if it is not there as it is.
func (s script) line(stmt string) int {
	i := bytes.Index(s.text, []byte(stmt))
	if i < 0 {
		return 0
	}
	return 1 + bytes.Count(s.text[:i], []byte("\n"))
}

// at is the place of a statement, and of a character in it, for people.
func (s script) at(stmt string, char int) string {
	n := s.line(stmt)
	if n == 0 {
		return s.name
	}
	if runes := []rune(stmt); char > 1 && char <= len(runes) {
		n += strings.Count(string(runes[:char-1]), "\n")
	}
	return fmt.Sprintf("%s:%d", s.name, n)
}

// shorten is the beginning of a statement, or of an error, on one line, without
// what a terminal would obey.
func shorten(text string) string {
	const most = 160
	text = strings.Join(strings.Fields(strings.ToValidUTF8(text, "�")), " ")
	text = strings.Map(plain, text)
	if r := []rune(text); len(r) > most {
		return string(r[:most]) + "…"
	}
	return text
}

// plain is r, if it is text.
func plain(r rune) rune {
	if r != '\n' && r != '\t' && unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) {
		return '�'
	}
	return r
}

// watch is a log handler that notes which statement goose sends.
type watch struct {
	count int
	last  string
}

func (w *watch) Enabled(context.Context, slog.Level) bool { return true }
func (w *watch) WithAttrs([]slog.Attr) slog.Handler       { return w }
func (w *watch) WithGroup(string) slog.Handler            { return w }

func (w *watch) Handle(_ context.Context, r slog.Record) error {
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "statement" {
			w.count, w.last = w.count+1, a.Value.String()
		}
		return true
	})
	return nil
}

// recorder is a database that does nothing but write down.
type recorder struct {
	statements []string
	inside     bool
}

func (r *recorder) Connect(context.Context) (driver.Conn, error) { return r, nil }
func (r *recorder) Driver() driver.Driver                        { return nil }
func (r *recorder) Prepare(string) (driver.Stmt, error)          { return nil, driver.ErrSkip }
func (r *recorder) Close() error                                 { return nil }
func (r *recorder) Commit() error                                { return nil }
func (r *recorder) Rollback() error                              { return nil }

func (r *recorder) Begin() (driver.Tx, error) {
	r.inside = true
	return r, nil
}

func (r *recorder) ExecContext(_ context.Context, query string, _ []driver.NamedValue) (driver.Result, error) {
	r.statements = append(r.statements, query)
	return driver.RowsAffected(0), nil
}

// oneFile is a directory with one file in it.
type oneFile struct {
	name string
	data []byte
}

// Open opens the directory or the file.
func (d oneFile) Open(name string) (fs.File, error) {
	switch name {
	case ".":
		return &openDir{oneFile: d}, nil
	case d.name:
		return openFile{info{d.name, int64(len(d.data)), 0o444}, bytes.NewReader(d.data)}, nil
	}
	return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
}

type openFile struct {
	info info
	*bytes.Reader
}

func (f openFile) Stat() (fs.FileInfo, error) { return f.info, nil }
func (f openFile) Close() error               { return nil }

type openDir struct {
	oneFile
	read bool
}

func (d *openDir) Stat() (fs.FileInfo, error) { return info{".", 0, fs.ModeDir | 0o555}, nil }
func (d *openDir) Read([]byte) (int, error)   { return 0, fs.ErrInvalid }
func (d *openDir) Close() error               { return nil }

func (d *openDir) ReadDir(n int) ([]fs.DirEntry, error) {
	if d.read {
		if n > 0 {
			return nil, io.EOF
		}
		return nil, nil
	}
	d.read = true
	return []fs.DirEntry{fs.FileInfoToDirEntry(info{d.name, int64(len(d.data)), 0o444})}, nil
}

type info struct {
	name string
	size int64
	mode fs.FileMode
}

func (i info) Name() string       { return i.name }
func (i info) Size() int64        { return i.size }
func (i info) Mode() fs.FileMode  { return i.mode }
func (i info) ModTime() time.Time { return time.Time{} }
func (i info) IsDir() bool        { return i.mode.IsDir() }
func (i info) Sys() any           { return nil }
