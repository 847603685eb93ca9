package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sallyport/admin"
	"sallyport/audit"
	"sallyport/recorder"
	"sallyport/store"
)

func sessionCommand(g *globals) *cobra.Command {
	return group("session", "Connections through the bastion, and their recordings",
		sessionListCommand(g), sessionShowCommand(g), sessionEndCommand(g), sessionHoldCommand(g), sessionReleaseCommand(g), sessionGiveUpCommand(g), sessionStorageCommand(g),
		sessionCommandsCommand(g),
		sessionFilesCommand(g), sessionPlayCommand(g), sessionWatchCommand(g), sessionExportCommand(g), sessionVerifyCommand(g), sessionKeysCommand(g))
}

func sessionListCommand(g *globals) *cobra.Command {
	var state, who, target, source, since, until, before string
	var limit int
	c := action(g, "list", "List sessions, newest first", cobra.NoArgs, func(c *cobra.Command, api *client, _ []string) error {
		q := url.Values{"limit": {itoa(limit)}}
		for name, value := range map[string]string{"state": state, "user": who, "target": target, "source": source, "before": before} {
			if value != "" {
				q.Set(name, value)
			}
		}
		if err := setTimes(q, since, until); err != nil {
			return err
		}
		var sessions []admin.Session
		if err := api.get(c.Context(), "/sessions", q, &sessions); err != nil {
			return err
		}
		if before == "" && source == "" && (state == "" || state == store.Live) {
			if err := g.tellWaiting(c.Context(), api, who, target); err != nil {
				return err
			}
		}
		return printList(g, sessions, "No sessions that match.", []string{"ID", "STATE", "USER", "TARGET", "ACCOUNT", "SOURCE", "STARTED", "LENGTH", "CHANNELS"},
			func(s admin.Session) []string {
				return []string{s.ID, sessionState(s), s.User, s.Target, s.Account, s.Source, clock(s.Started), sessionLength(s), channelList(s)}
			})
	})
	f := c.Flags()
	f.StringVar(&state, "only", "", "live, ended or lost") // --state is a demo's folder
	f.StringVar(&who, "user", "", "login")
	f.StringVar(&target, "target", "", "target")
	f.StringVar(&source, "source", "", "address of the client")
	f.StringVar(&since, "since", "", "started from this time on: a time, or a time ago such as 2h")
	f.StringVar(&until, "until", "", "started before this time")
	f.StringVar(&before, "before", "", "id of a session: older ones")
	f.IntVar(&limit, "limit", 100, "how many, at most 1000")
	return c
}

// sessionState is the state of a session and what it waits for.
func sessionState(s admin.Session) string {
	if s.Waits != "" {
		return s.State + ", waits for a " + s.Waits
	}
	return s.State
}

// tellWaiting tells people, beside a list of sessions, who waits for an approval: these are no sessions yet.
func (g *globals) tellWaiting(ctx context.Context, api *client, who, target string) error {
	if g.json() {
		return nil
	}
	q := url.Values{"state": {store.ApprovalPending}}
	for name, value := range map[string]string{"user": who, "target": target} {
		if value != "" {
			q.Set(name, value)
		}
	}
	var waiting []admin.Approval
	if err := api.get(ctx, "/approvals", q, &waiting); err != nil {
		return err
	}
	for _, a := range waiting {
		g.say("%s waits for an approval of %s@%s since %s: sallyport approval show %s", audit.Escape(a.User), audit.Escape(a.Account), audit.Escape(a.Target), clock(a.Requested), a.Code)
	}
	return nil
}

func sessionLength(s admin.Session) string {
	if s.Started == nil {
		return ""
	}
	end := time.Now()
	if s.Ended != nil {
		end = *s.Ended
	}
	return end.Sub(*s.Started).Round(time.Second).String()
}

func channelList(s admin.Session) string {
	var kinds []string
	for _, c := range s.Channels {
		kinds = append(kinds, c.Kind)
	}
	return joined(kinds)
}

func sessionShowCommand(g *globals) *cobra.Command {
	return action(g, "show ID", "Show a session and its channels", cobra.ExactArgs(1), func(c *cobra.Command, api *client, args []string) error {
		var s admin.Session
		if err := api.get(c.Context(), route("sessions", args[0]), nil, &s); err != nil {
			return err
		}
		var approvals []admin.Approval
		if !g.json() {
			if err := api.get(c.Context(), "/approvals", url.Values{"session": {s.ID}, "state": {"used"}}, &approvals); err != nil {
				return err
			}
		}
		var approvedBy []string
		for _, a := range approvals {
			for _, d := range a.Decisions {
				approvedBy = append(approvedBy, d.User)
			}
		}
		err := g.printFields(s, "id", s.ID, "state", sessionState(s), "user", s.User, "target", s.Target+" ("+s.Address+")", "account", s.Account,
			"source", s.Source, "client", s.Client, "key", s.KeyFingerprint, "node", s.Node, "rule", s.Rule, "recording", s.RecordingMode,
			"started", clock(s.Started), "ended", clock(s.Ended), "reason", s.Reason, "approved by", joined(approvedBy))
		if err != nil || g.json() {
			return err
		}
		fmt.Fprintln(g.Out)
		err = printList(g, s.Channels, "No channels were opened.", []string{"CHANNEL", "KIND", "COMMAND", "EXIT", "IN", "OUT", "RECORDING"}, channelRow)
		if err != nil {
			return err
		}
		found, err := recordingsOf(c, api, args[0])
		if err != nil {
			return err
		}
		return g.printRecordings(found)
	})
}

func channelRow(c admin.Channel) []string {
	exit := c.ExitSignal
	if c.ExitStatus != nil {
		exit = itoa(*c.ExitStatus)
	}
	recording := c.Recording
	if c.Truncated {
		recording += " (cut at the rule's limit)"
	}
	return []string{itoa(c.ID), c.Kind, c.Command, exit, byteCount(c.BytesIn), byteCount(c.BytesOut), recording}
}

func sessionEndCommand(g *globals) *cobra.Command {
	var in admin.NewEnd
	c := action(g, "end ID", "End a live session", cobra.ExactArgs(1), func(c *cobra.Command, api *client, args []string) error {
		if err := api.call(c.Context(), http.MethodPost, route("sessions", args[0], "end"), in, nil); err != nil {
			return err
		}
		ended := struct {
			ID    string `json:"id"`
			Ended bool   `json:"ended"`
		}{args[0], true}
		return g.done(ended, "ended session %s", audit.Escape(args[0]))
	})
	c.Flags().StringVar(&in.Message, "message", "", "text that the person reads")
	return c
}

func sessionExportCommand(g *globals) *cobra.Command {
	var source castSource
	var format string
	c := &cobra.Command{
		Use: "export ID|FILE", Short: "Print the recording of one channel", Args: usageArgs(cobra.ExactArgs(1)),
		Long: "Print the recording of one channel. An encrypted one leaves the server only as it is (--format encrypted: a tar archive,\n" +
			"which session verify proves); with --identity it is decrypted here.",
		RunE: func(c *cobra.Command, args []string) error {
			if source.identity != "" {
				return g.exportDecrypted(c.Context(), source, args[0], recorder.Format(format))
			}
			api, err := g.client()
			if err != nil {
				return err
			}
			q := url.Values{"format": {format}, "channel": {itoa(source.channel)}, "for": {"export"}}
			return api.stream(c.Context(), route("sessions", args[0], "recording"), q, g.Out)
		},
	}
	source.register(c)
	c.Flags().StringVar(&format, "format", string(recorder.Asciicast3), "asciicast3, asciicast2, text, json or encrypted")
	return c
}

// exportDecrypted prints what only the holder of a key can read.
func (g *globals) exportDecrypted(ctx context.Context, source castSource, arg string, format recorder.Format) error {
	cast, err := source.open(ctx, g, arg, "export")
	if err != nil {
		return err
	}
	defer cast.Close()
	if format != recorder.Asciicast3 {
		return recorder.Convert(g.Out, cast, format)
	}
	_, err = io.Copy(g.Out, cast)
	return err
}

func sessionKeysCommand(g *globals) *cobra.Command {
	return action(g, "keys", "Print the public keys by which recordings are verified", cobra.NoArgs, func(c *cobra.Command, api *client, _ []string) error {
		keys, err := api.recordingKeys(c)
		if err != nil {
			return err
		}
		if g.json() {
			return g.printJSON(keys)
		}
		g.say("keep these apart from the recordings; then: sallyport session verify FILE --keys KEYS.pem")
		for _, k := range keys {
			if err := printLine(g.Out, strings.TrimSuffix(k.PEM, "\n")); err != nil {
				return err
			}
		}
		return nil
	})
}

func (c *client) recordingKeys(cmd *cobra.Command) ([]admin.RecordingKey, error) {
	var keys []admin.RecordingKey
	return keys, c.get(cmd.Context(), "/recording-keys", nil, &keys)
}

func sessionVerifyCommand(g *globals) *cobra.Command {
	var keyFile string
	c := &cobra.Command{
		Use: "verify ID|FILE…", Short: "Prove that recordings are whole and unchanged", Args: usageArgs(cobra.MinimumNArgs(1)),
		Long: "Prove that recordings are whole and unchanged: of sessions, by the server, or of files, here. A file is a recording with its\n" +
			"index beside it, or an export as asciicast3. The exit status is 0 only if every byte of all of them is proved. A file\n" +
			"can be renamed: see that SESSION is the one you mean.",
		RunE: func(c *cobra.Command, args []string) error {
			v := verifier{g: g, c: c, keyFile: keyFile}
			found := []admin.Verification{}
			for _, arg := range args {
				one, err := v.verify(arg)
				if err != nil {
					return err
				}
				found = append(found, one...)
			}
			return g.showVerification(found)
		},
	}
	c.Flags().StringVar(&keyFile, "keys", "", "file with the public keys for files (default: those that the server tells; see: session keys)")
	return c
}

// verifier proves recordings; what it needs for it is fetched once.
type verifier struct {
	g       *globals
	c       *cobra.Command
	keyFile string
	api     *client
	keys    recorder.Keyring
}

func (v *verifier) verify(arg string) ([]admin.Verification, error) {
	if !isFile(arg) {
		if err := v.connect(); err != nil {
			return nil, err
		}
		var found []admin.Verification
		return found, v.api.get(v.c.Context(), route("sessions", arg, "verification"), nil, &found)
	}
	if err := v.loadKeys(); err != nil {
		return nil, err
	}
	if _, err := os.Stat(arg); err != nil {
		return nil, usage("Give a file that can be read, or the id of a session.", "%s", audit.Escape(err.Error()))
	}
	report, err := recorder.VerifyFileWith(arg, v.keys)
	return []admin.Verification{admin.VerificationOf(arg, report, err)}, nil
}

// isFile tells a file from the id of a session, which has neither dot nor slash.
func isFile(arg string) bool {
	if strings.ContainsAny(arg, "./") {
		return true
	}
	_, err := os.Stat(arg)
	return err == nil
}

func (v *verifier) connect() error {
	if v.api != nil {
		return nil
	}
	var err error
	v.api, err = v.g.client()
	return err
}

// loadKeys reads the keys of a file, or asks the server for them.
func (v *verifier) loadKeys() error {
	if v.keys != nil {
		return nil
	}
	var text []byte
	if v.keyFile != "" {
		var err error
		if text, err = v.g.readInput(v.keyFile); err != nil {
			return err
		}
	} else {
		if err := v.connect(); err != nil {
			return fmt.Errorf("%w\nOr give the keys: --keys FILE", err)
		}
		keys, err := v.api.recordingKeys(v.c)
		if err != nil {
			return err
		}
		for _, k := range keys {
			text = append(text, k.PEM...)
		}
	}
	keys, err := keyringOf(text)
	if err != nil {
		return usage("Give what this prints on the server: sallyport session keys", "reading the keys: %w", err)
	}
	v.keys = keys
	return nil
}

func (g *globals) showVerification(found []admin.Verification) error {
	if g.json() {
		if err := g.printJSON(found); err != nil {
			return err
		}
	} else {
		t := newTable(g.Out, "RECORDING", "SESSION", "PROVED", "BYTES", "PARTS", "KEY", "PROBLEM")
		for _, v := range found {
			of := ""
			if v.Session != "" {
				of = v.Session + "/" + itoa(v.Channel)
			}
			t.row(v.ID, of, yesNo(v.Proved), fmt.Sprintf("%d of %d", v.ProvedBytes, v.Bytes), itoa(v.Parts), joined(v.Keys), v.Problem)
		}
		if err := t.flush(); err != nil {
			return err
		}
	}
	if slices.ContainsFunc(found, func(v admin.Verification) bool { return !v.Proved }) {
		return failed("Keep the files as they are, and compare with a copy.", "not every byte is proved")
	}
	return nil
}
