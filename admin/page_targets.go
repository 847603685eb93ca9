package admin

import (
	"fmt"
	"net"
	"slices"
	"strings"

	"sallyport/audit"
	"sallyport/internal/web"
	"sallyport/store"
)

// targetView is a target as the pages show it.
type targetView struct {
	Target
	Path   string
	Labels []string // key=value, sorted
	Tofu   bool     // takes the first key it sees, and has seen none yet
}

func viewTarget(t store.Target) targetView {
	v := targetView{Target: wireTarget(t), Path: within("targets", t.Name)}
	v.Tofu = t.HostKeyMode == store.TOFU && len(t.HostKeys) == 0
	for key, value := range t.Labels {
		v.Labels = append(v.Labels, key+"="+value)
	}
	slices.Sort(v.Labels)
	return v
}

func (s *Server) targetsPage(v *visit) error {
	targets, err := s.cfg.Store.Targets.List(v.ctx())
	if err != nil {
		return err
	}
	v.show("targets", web.Page{Title: "Targets", Section: "targets", Data: list(targets, viewTarget)})
	return nil
}

// newTargetData is what was typed into the form of a new target.
type newTargetData struct {
	Name, Address, Via, Accounts, Labels, Keys, Note string
	TOFU                                             bool
	Credential                                       string    // a password is never shown again
	Shown                                            []HostKey // what the address showed when asked
}

func (s *Server) newTargetPage(v *visit) error {
	v.show("target_new", web.Page{Title: "New target", Section: "targets", Data: newTargetData{}})
	return nil
}

// addTargetForm adds a target, or with the button "scan" fetches its host key into the form.
func (s *Server) addTargetForm(v *visit) error {
	typed := newTargetData{
		Name: v.typed("name"), Address: v.typed("address"), Via: v.typed("via"), Accounts: v.typed("accounts"), Labels: v.typed("labels"),
		Keys: v.typed("keys"), Note: v.typed("note"), TOFU: v.r.PostFormValue("mode") == store.TOFU, Credential: v.typed("credential"),
	}
	form := web.Page{Title: "New target", Section: "targets", Data: &typed}
	if v.pressed("scan") {
		shown, err := s.scan(v.ctx(), typed.Address, typed.Via)
		if err != nil {
			v.again(err, "target_new", form)
			return nil
		}
		var keys []string
		for _, k := range shown {
			keys = append(keys, k.Key)
		}
		typed.Shown, typed.Keys, typed.TOFU = shown, strings.Join(keys, "\n"), false
		v.show("target_new", form)
		return nil
	}
	n := NewTarget{Name: typed.Name, Address: typed.Address, Via: typed.Via, Accounts: listOf(typed.Accounts), Note: typed.Note, HostKeyMode: store.Pinned}
	switch n.Credential = typed.Credential; n.Credential {
	case "", store.CredentialKey, store.CredentialOwnKey, store.CredentialCertificate, store.CredentialRelayed:
	case store.CredentialPassword:
		n.Password = v.r.PostFormValue("password")
	default:
		return invalid("choose one of those that the form shows", "%s is not a credential", audit.Quote(n.Credential))
	}
	if typed.TOFU {
		n.HostKeyMode = store.TOFU
	} else {
		n.HostKeys = lines(typed.Keys)
	}
	var err error
	if n.Labels, err = labels(typed.Labels); err == nil {
		_, err = s.addTarget(v.ctx(), v.by, n)
	}
	if err != nil {
		v.again(err, "target_new", form)
		return nil
	}
	return v.done(within("targets", n.Name), "Target %s was added. Next, let it trust the bastion.", n.Name)
}

// lines splits what was typed by line, and drops empty ones.
func lines(typed string) []string {
	var found []string
	for line := range strings.Lines(typed) {
		if line = strings.TrimSpace(line); line != "" {
			found = append(found, line)
		}
	}
	return found
}

// labels reads "env=prod, role=db".
func labels(typed string) (map[string]string, error) {
	found := map[string]string{}
	for _, item := range listOf(typed) {
		key, value, ok := strings.Cut(item, "=")
		if !ok {
			return nil, invalid("write key=value, by comma: env=prod, role=db", "%s is not a label", audit.Quote(item))
		}
		found[strings.TrimSpace(key)] = strings.TrimSpace(value)
	}
	return found, nil
}

// targetData is the dot of one target's page.
type targetData struct {
	targetView
	Onboarding  *Onboarding // nil: it needs an account to be named
	Account     string
	SSHConfig   string
	Command     string
	Check       *Check // nil: not tried just now
	Recent      []sessionView
	OnboardWhy  string // why there is no onboarding
	Waiting     []WaitingHostKey
	HasAccounts bool
}

func (s *Server) targetPage(v *visit) error {
	d, err := s.targetData(v, v.path("name"), v.query("account"))
	if err != nil {
		return err
	}
	v.show("target", web.Page{Title: d.Name, Section: "targets", Data: d})
	return nil
}

func (s *Server) targetData(v *visit, name, account string) (targetData, error) {
	t, err := s.target(v.ctx(), name)
	if err != nil {
		return targetData{}, err
	}
	d := targetData{targetView: viewTarget(t), Account: account, HasAccounts: len(t.Accounts) > 0}
	d.SSHConfig, d.Command = s.sshConfig(v.by.Actor, t.Name)
	o, err := s.onboarding(v.ctx(), name, account)
	if err != nil {
		d.OnboardWhy = web.Sentence(v.problem(err).Detail)
	} else {
		d.Onboarding = &o
	}
	if d.Waiting, err = s.waitingHostKeys(v.ctx(), name, nil); err != nil {
		return d, err
	}
	recent, err := s.sessionList(v.ctx(), store.SessionFilter{Target: t.Name, Limit: 5})
	d.Recent = s.viewSessions(recent)
	return d, err
}

// sshConfig is a block for ~/.ssh/config, and the same as one command.
func (s *Server) sshConfig(login, target string) (block, command string) {
	host, port, err := net.SplitHostPort(s.cfg.SSHAddress)
	if err != nil {
		host, port = s.cfg.SSHAddress, "22"
	}
	block = fmt.Sprintf("Host %s\n    HostName %s\n    Port %s\n    User %s@%s\n", target, host, port, login, target)
	command = fmt.Sprintf("ssh %s@%s@%s", login, target, host)
	if port != "22" {
		command = fmt.Sprintf("ssh -p %s %s@%s@%s", port, login, target, host)
	}
	return block, command
}

// checkTargetForm tries the target and shows each step on its page.
func (s *Server) checkTargetForm(v *visit) error {
	name, account := v.path("name"), v.typed("account")
	c, err := s.checkTarget(v.ctx(), name, account)
	if err != nil {
		return err
	}
	d, err := s.targetData(v, name, account)
	if err != nil {
		return err
	}
	d.Check = &c
	v.show("target", web.Page{Title: d.Name, Section: "targets", Data: d})
	return nil
}

// confirmHostKeyPage asks before a key that was refused becomes the key of its target.
func (s *Server) confirmHostKeyPage(v *visit) error {
	t, err := s.target(v.ctx(), v.path("name"))
	if err != nil {
		return err
	}
	w, err := s.cfg.Store.HostKeys.ByID(v.ctx(), v.path("id"))
	if err := ifNotFound(err, seeHostKeys, "this host key does not wait any more"); err != nil {
		return err
	}
	kind, _, _ := strings.Cut(w.Key, " ")
	path := within("targets", t.Name)
	return v.confirm("targets", "Approve a host key", confirmation{
		Question:    "Is " + fingerprintOf(w.Key) + " the host key of " + w.Target + "?",
		Consequence: "Compare it on the host itself: ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub. This " + kind + " key takes the place of every key known so far. If it is somebody else's, they can read and alter all sessions to this target.",
		Action:      path + "/hostkeys/" + w.ID, Button: "Approve the key", Cancel: path,
	})
}

// hostKeyForm approves a key that waits, or with the button "reject" never takes it.
func (s *Server) hostKeyForm(v *visit) error {
	path := within("targets", v.path("name"))
	if v.pressed("reject") {
		w, err := s.rejectHostKey(v.ctx(), v.by, v.path("id"))
		if err != nil {
			return err
		}
		return v.done(path, "%s is never taken for %s.", fingerprintOf(w.Key), w.Target)
	}
	w, err := s.approveHostKey(v.ctx(), v.by, v.path("id"), false)
	if err != nil {
		return err
	}
	return v.done(path, "%s is the host key of %s now.", fingerprintOf(w.Key), w.Target)
}

func (s *Server) confirmDeleteTargetPage(v *visit) error {
	t, err := s.target(v.ctx(), v.path("name"))
	if err != nil {
		return err
	}
	path := within("targets", t.Name)
	return v.confirm("targets", "Delete a target", confirmation{
		Question:    "Delete the target " + t.Name + "?",
		Consequence: "Sessions on it are ended. Take the bastion's line out of the target's authorized_keys yourself. Past sessions stay.",
		Action:      path + "/delete", Button: "Delete " + t.Name, Cancel: path,
	})
}

func (s *Server) deleteTargetForm(v *visit) error {
	name := v.path("name")
	if err := s.deleteTarget(v.ctx(), v.by, name); err != nil {
		return err
	}
	return v.done("/targets", "Target %s was deleted.", name)
}
