package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sallyport/admin"
	"sallyport/audit"
	"sallyport/internal/auditlog"
	"sallyport/internal/web"
	"sallyport/recorder"
)

func auditExportCommand(g *globals) *cobra.Command {
	var since string
	c := action(g, "export", "Print the log with its chain, for a proof without the server", cobra.NoArgs, func(c *cobra.Command, api *client, _ []string) error {
		q := url.Values{}
		if err := setTimes(q, since, ""); err != nil {
			return err
		}
		return api.stream(c.Context(), "/audit/export", q, g.Out)
	})
	c.Flags().StringVar(&since, "since", "", "begin with the signature before this time: a time, or a time ago such as 2h")
	return c
}

func auditVerifyCommand(g *globals) *cobra.Command {
	var keyFile, since, headFile string
	var heads []string
	c := &cobra.Command{
		Use: "verify [FILE…]", Short: "Prove that no event was altered, removed, inserted or moved", Args: usageArgs(cobra.ArbitraryArgs),
		Long: "Prove that no event was altered, removed, inserted or moved, and tell the first that was: by the server, or in files that\n" +
			"'sallyport audit export' wrote, here. With --keys the server's log is proved here too, with these keys. The exit status is\n" +
			"0 only if everything is proved. Events of the last second or two have no place in the chain yet, and are counted.",
		RunE: func(c *cobra.Command, args []string) error {
			known, err := parseHeads(heads)
			if err != nil {
				return err
			}
			p := auditProver{verifier: verifier{g: g, c: c, keyFile: keyFile}, heads: known, headFile: headFile}
			found, err := p.all(args, since)
			if err != nil {
				return err
			}
			return g.showAuditProofs(found)
		},
	}
	c.Flags().StringVar(&keyFile, "keys", "", "file with the public keys (default: those that the server tells; see: session keys)")
	c.Flags().StringVar(&since, "since", "", "prove the server's log from this time on only: a time, or a time ago such as 2h")
	c.Flags().StringArrayVar(&heads, "head", nil, "POSITION:HEAD as an earlier proof told it: the log must still have it")
	c.Flags().StringVar(&headFile, "heads", "", "file of heads that a node kept ("+headsFile+" in its data folder, or of the bucket): the log must still have them")
	return c
}

func auditAcceptRestoreCommand(g *globals) *cobra.Command {
	var in admin.AcceptRestore
	c := action(g, "accept-restore", "Answer for what the audit log has lost because the database was brought back from a backup", cobra.NoArgs, func(c *cobra.Command, api *client, _ []string) error {
		var r admin.AuditRestore
		if err := api.call(c.Context(), http.MethodPost, route("audit", "restores"), in, &r); err != nil {
			return err
		}
		if g.json() {
			return g.printJSON(r)
		}
		g.say("written, and told with each proof from now on: %s", r.InWords())
		return nil
	})
	c.Long = "Answer for what the audit log has lost because the database was brought back from a backup. Each node keeps signed heads of the log\n" +
		"outside of the database, so that nobody cuts off its end; after a restore they are not in it, and every proof fails, as it should.\n" +
		"This writes the event audit.restored, which this node signs, with your reason. It excuses the heads that are missing now, and nothing\n" +
		"that is lost later; every proof tells it from then on."
	c.Flags().StringVar(&in.Reason, "reason", "", "why; it stays in the log")
	return c
}

// parseHeads reads heads as people kept them.
func parseHeads(texts []string) (map[int64][]audit.Kept, error) {
	heads := map[int64][]audit.Kept{}
	for _, text := range texts {
		number, hash, _ := strings.Cut(text, ":")
		position, err := strconv.ParseInt(number, 10, 64)
		var h audit.Hash
		if err != nil || position < 1 || h.UnmarshalText([]byte(hash)) != nil {
			return nil, usage("Write it as 'sallyport audit verify' printed it: a number, a colon, 64 hexadecimal digits.", "%s is not a head", audit.Quote(text))
		}
		heads[position] = append(heads[position], audit.Kept{Head: h})
	}
	return heads, nil
}

// auditProver proves logs; what it needs for it is fetched once.
type auditProver struct {
	verifier
	heads    map[int64][]audit.Kept
	headFile string // "": none
}

// keptHeads adds the heads of a file that a node kept.
func (p *auditProver) keptHeads() error {
	if p.headFile == "" {
		return nil
	}
	f, err := os.Open(p.headFile)
	if err != nil {
		return usage("Give a file that can be read.", "%s", audit.Escape(err.Error()))
	}
	defer f.Close()
	list, err := auditlog.ReadHeads(f)
	if err != nil {
		return fmt.Errorf("reading %s: %w", audit.Escape(p.headFile), err)
	}
	kept := audit.HeadsOf(list, admin.AuditCheck(p.keys.Check))
	if len(kept) == 0 {
		return failed("Give the keys of the nodes that signed them: --keys", "no head in %s is proved", audit.Escape(p.headFile))
	}
	for at, heads := range kept {
		p.heads[at] = append(p.heads[at], heads...)
	}
	return nil
}

func (p *auditProver) all(files []string, since string) ([]admin.AuditVerification, error) {
	if len(files) == 0 {
		one, err := p.server(since)
		return []admin.AuditVerification{one}, err
	}
	if since != "" {
		return nil, usage("Leave --since away, or export the file anew with it.", "--since is for the server's log")
	}
	if err := p.loadKeys(); err != nil {
		return nil, err
	}
	if err := p.keptHeads(); err != nil {
		return nil, err
	}
	var found []admin.AuditVerification
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			return nil, usage("Give a file that can be read.", "%s", audit.Escape(err.Error()))
		}
		proof, broken, err := p.prove(f)
		f.Close()
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", audit.Escape(name), err)
		}
		if broken == nil && proof.Last == 0 {
			broken = errors.New("nothing in it has a place in the chain, so that nothing is proved")
		}
		found = append(found, admin.AuditVerificationOf(name, proof, broken))
	}
	return found, nil
}

// server has the server prove its log, or fetches it and proves it here.
func (p *auditProver) server(since string) (admin.AuditVerification, error) {
	var found admin.AuditVerification
	q := url.Values{}
	if err := setTimes(q, since, ""); err != nil {
		return found, err
	}
	if err := p.connect(); err != nil {
		return found, err
	}
	if p.keyFile == "" && len(p.heads) == 0 && p.headFile == "" {
		return found, p.api.get(p.c.Context(), "/audit/verification", q, &found)
	}
	if err := p.loadKeys(); err != nil {
		return found, err
	}
	if err := p.keptHeads(); err != nil {
		return found, err
	}
	out, in := io.Pipe()
	sent := make(chan error, 1)
	go func() {
		err := p.api.stream(p.c.Context(), "/audit/export", q, in)
		in.CloseWithError(err)
		sent <- err
	}()
	proof, broken, err := p.prove(out)
	out.Close()
	if failed := <-sent; err == nil && broken == nil {
		err = failed
	}
	return admin.AuditVerificationOf("audit", proof, broken), err
}

// prove reads a log to its end or to the first thing that is wrong.
func (p *auditProver) prove(src io.Reader) (proof audit.Proof, broken, err error) {
	chain := audit.Chain{Check: admin.AuditCheck(p.keys.Check), Heads: p.heads}
	in := bufio.NewReaderSize(src, 1<<20)
	for number := 1; ; number++ {
		text, err := in.ReadSlice('\n')
		if err == io.EOF && len(text) == 0 {
			proof, broken = chain.End()
			return proof, broken, nil
		}
		if err == io.EOF || errors.Is(err, bufio.ErrBufferFull) {
			proof, _ = chain.End()
			return proof, fmt.Errorf("line %d is not whole", number), nil
		}
		if err != nil {
			return proof, nil, err
		}
		line, wrong := audit.ParseLine(bytes.TrimSuffix(text, []byte("\n")))
		if wrong == nil {
			wrong = chain.Add(line)
		}
		if wrong != nil {
			proof, _ = chain.End()
			return proof, fmt.Errorf("line %d: %w", number, wrong), nil
		}
	}
}

func (g *globals) showAuditProofs(found []admin.AuditVerification) error {
	bad, lost := false, true
	for _, v := range found {
		bad = bad || !v.Proved
		lost = lost && (v.Proved || v.Lost)
	}
	if g.json() {
		if err := g.printJSON(found); err != nil {
			return err
		}
	} else {
		t := newTable(g.Out, "LOG", "PROVED", "EVENTS", "NOT CHAINED YET", "SIGNED", "BY", "KEY", "PROBLEM")
		for _, v := range found {
			events := "none"
			if v.Last >= v.First {
				events = fmt.Sprintf("%d to %d", v.First, v.Last)
			}
			t.row(v.ID, yesNo(v.Proved), events, itoa(v.Unchained), clock(v.Signed), v.Node, v.Key, v.Problem)
		}
		if err := t.flush(); err != nil {
			return err
		}
		for _, v := range found {
			for _, r := range v.Restores {
				g.say("%s", r.InWords())
			}
			if v.HeadsProblem != "" {
				g.say("heads that are kept elsewhere could not all be read: %s", v.HeadsProblem)
			}
			if v.Heads > 0 {
				g.say("held against %s kept outside of the database", web.Plural(v.Heads, "head that is", "heads that are"))
			}
			if v.Proved && v.Last > 0 {
				g.say("keep this elsewhere, to find later that nothing was cut off: --head %d:%s", v.Last, v.Head)
			}
		}
	}
	if bad && lost {
		return failed("Nothing else is wrong. If the database was brought back from a backup, say so, signed and for good: sallyport audit accept-restore --reason TEXT\n"+
			"Else somebody has cut off its end: keep it as it is, and compare with a backup and with the log on standard error.", "the audit log has lost events that were signed")
	}
	if bad {
		return failed("Keep the database as it is, and compare with a backup and with the log on standard error.", "the audit log is not proved")
	}
	return nil
}

// signingKey is a key as the commands print it.
type signingKey struct {
	ID              string     `json:"id"`
	Node            string     `json:"node"`
	Added           *time.Time `json:"added"`
	CompromisedFrom *time.Time `json:"compromised_from"`
	PEM             string     `json:"pem"`
}

func keyringOf(text []byte) (recorder.Keyring, error) {
	keys, err := recorder.ParseKeyFile(text)
	return recorder.NewKeyring(keys...), err
}
