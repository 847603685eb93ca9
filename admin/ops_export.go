package admin

import (
	"bufio"
	"context"
	"encoding/csv"
	"fmt"
	"io"
	"iter"
	"strconv"
	"strings"
	"time"

	"filippo.io/age"

	"sallyport/audit"
	"sallyport/auth"
	"sallyport/otp"
	"sallyport/otp/tokenfile"
	"sallyport/store"
)

// Formats of an export with secrets.
const (
	exportCSV     = "csv"
	exportPSKC    = "pskc"
	exportOtpauth = "otpauth"
)

// tokenExport is an export with secrets that may be done.
type tokenExport struct {
	s          *Server
	recipients []age.Recipient
	format     string
	users      []store.User // none: everybody, and the stock
}

// prepareExport checks an export of secrets and leaves its audit event. Without the event there is none.
func (s *Server) prepareExport(ctx context.Context, by Caller, n NewExport) (*tokenExport, error) {
	x := &tokenExport{s: s, format: n.Format}
	if x.format == "" {
		x.format = exportCSV
	}
	for _, r := range n.Recipients {
		list, err := age.ParseRecipients(strings.NewReader(r))
		if err != nil || len(list) != 1 {
			return nil, invalid("give one as age-keygen prints it: age1…", "%s is no recipient of age", shorten(r, 80))
		}
		x.recipients = append(x.recipients, list...)
	}
	if len(x.recipients) == 0 {
		return nil, invalid("give one as age-keygen prints it: age1…", "secrets leave only encrypted, and there is no recipient")
	}
	// That all recipients go together is found out before anything is sent.
	if _, err := age.Encrypt(io.Discard, x.recipients...); err != nil {
		return nil, invalid("give them in exports of their own", "these recipients cannot be used together")
	}
	for _, login := range tidy(n.Users) {
		u, err := s.user(ctx, login)
		if err != nil {
			return nil, err
		}
		x.users = append(x.users, u)
	}
	of := "everybody"
	if len(n.Users) > 0 {
		of = shorten(strings.Join(tidy(n.Users), ","), 1000)
	}
	err := s.cfg.Audit.Emit(ctx, audit.Event{
		Type: audit.OperatorChange, Result: audit.OK, Door: by.Door, Actor: by.Actor, Source: by.source(),
		Detail: map[string]string{"change": "token.export", "format": x.format, "users": of, "recipients": strings.Join(n.Recipients, ",")},
	})
	if err != nil {
		return nil, fmt.Errorf("%w: writing the audit event: %w", store.ErrUnavailable, err)
	}
	return x, nil
}

// write encrypts the tokens that can be used; those that are disabled, lost or expired stay here: their state
// would be lost on the way.
func (x *tokenExport) write(ctx context.Context, w io.Writer) error {
	sealed, err := age.Encrypt(w, x.recipients...)
	if err != nil {
		return fmt.Errorf("encrypting an export: %w", err)
	}
	out := bufio.NewWriterSize(sealed, 64<<10)
	if err := x.writePlain(ctx, out); err != nil {
		return err
	}
	if err := out.Flush(); err != nil {
		return fmt.Errorf("encrypting an export: %w", err)
	}
	if err := sealed.Close(); err != nil {
		return fmt.Errorf("encrypting an export: %w", err)
	}
	return nil
}

func (x *tokenExport) writePlain(ctx context.Context, w io.Writer) error {
	rows := func(yield func(tokenfile.Row, error) bool) {
		for t, err := range x.s.ownedTokens(ctx, x.users, true) {
			if err != nil {
				yield(tokenfile.Row{}, err)
				return
			}
			if t.Login != "" && t.State(x.s.cfg.Now()) != store.TokenEnabled {
				continue
			}
			if !yield(rowOf(t), nil) {
				return
			}
		}
	}
	switch x.format {
	case exportPSKC:
		return tokenfile.WritePSKC(w, rows)
	case exportOtpauth:
		return tokenfile.WriteOtpauth(w, rows)
	}
	return tokenfile.WriteCSV(w, rows, true)
}

func rowOf(t store.OwnedToken) tokenfile.Row {
	r := tokenfile.Row{
		User: t.Login, Serial: t.Serial, Name: t.Name, Kind: t.Kind, Params: auth.ParamsOf(t.Token), Secret: otp.Secret(t.Secret), Drift: t.Drift,
	}
	if r.Kind == tokenfile.HOTP {
		r.Counter = t.LastStep + 1
	}
	return r
}

// ownedTokens goes through the tokens of users, or all of them and the stock.
func (s *Server) ownedTokens(ctx context.Context, users []store.User, secrets bool) iter.Seq2[store.OwnedToken, error] {
	type source func(after string) ([]store.OwnedToken, error)
	of := func(userID string) source {
		return func(after string) ([]store.OwnedToken, error) {
			return s.cfg.Store.Tokens.Export(ctx, after, userID, secrets)
		}
	}
	sources := []source{of(""), func(after string) ([]store.OwnedToken, error) { return s.cfg.Store.Stock.Export(ctx, after, secrets) }}
	if len(users) > 0 {
		sources = nil
		for _, u := range users {
			sources = append(sources, of(u.ID))
		}
	}
	return func(yield func(store.OwnedToken, error) bool) {
		for _, next := range sources {
			for after := ""; ; {
				list, err := next(after)
				if err != nil {
					yield(store.OwnedToken{}, err)
					return
				}
				for _, t := range list {
					if !yield(t, nil) {
						return
					}
					after = t.ID
				}
				if len(list) < store.ExportBatch {
					break
				}
			}
		}
	}
}

// writeTokenList writes all tokens without their secrets, as CSV for people.
func (s *Server) writeTokenList(ctx context.Context, w io.Writer) error {
	c := csv.NewWriter(w)
	_ = c.Write([]string{"user", "serial", "type", "name", "algorithm", "digits", "period", "drift", "state", "expires", "created", "last_used"}) // told by Flush
	for t, err := range s.ownedTokens(ctx, nil, false) {
		if err != nil {
			return err
		}
		state := "stock"
		if t.Login != "" {
			state = t.State(s.cfg.Now())
		}
		_ = c.Write([]string{
			tokenfile.Cell(t.Login), tokenfile.Cell(t.Serial), t.Kind, tokenfile.Cell(t.Name), t.Algorithm, strconv.Itoa(t.Digits), strconv.Itoa(t.Period),
			strconv.Itoa(t.Drift), state, cellTime(t.Expires), cellTime(t.Created), cellTime(t.LastUsed),
		})
	}
	c.Flush()
	return c.Error()
}

func cellTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

// writeUserList writes all users as CSV; an import takes it.
func (s *Server) writeUserList(ctx context.Context, w io.Writer) error {
	users, err := s.cfg.Store.Users.List(ctx, store.UserFilter{})
	if err != nil {
		return err
	}
	c := csv.NewWriter(w)
	_ = c.Write(userColumns) // told by Flush
	for _, u := range users {
		_ = c.Write([]string{
			tokenfile.Cell(u.Login), tokenfile.Cell(u.Name), tokenfile.Cell(u.Email), tokenfile.Cell(u.Phone), tokenfile.Cell(strings.Join(u.Groups, ";")),
			string(u.Source), strconv.FormatBool(u.LockedNow(s.cfg.Now())), strconv.Itoa(u.Tokens),
		})
	}
	c.Flush()
	return c.Error()
}

// exported leaves the event of an export without secrets.
func (s *Server) exported(ctx context.Context, by Caller, what string) {
	s.changed(ctx, by, what, audit.Event{Detail: map[string]string{"format": "csv", "secrets": "none"}})
}
