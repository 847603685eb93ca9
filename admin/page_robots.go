package admin

import (
	"strings"
	"time"

	"sallyport/internal/web"
	"sallyport/store"
)

// robotView is a robot as the pages show it.
type robotView struct {
	store.Robot
	Path  string
	State string // as in the API
}

// newRobot is what was typed into the form of a new robot.
type newRobot struct{ Name, Key, Sources, Targets, Accounts, Commands, Days, Note string }

type robotsData struct {
	Rows  []robotView
	Typed newRobot
}

func (s *Server) robotsData(v *visit, typed newRobot) (robotsData, error) {
	robots, err := s.cfg.Store.Robots.List(v.ctx())
	d := robotsData{Typed: typed}
	for _, r := range robots {
		d.Rows = append(d.Rows, robotView{Robot: r, Path: within("robots", r.Name), State: s.wireRobot(r).State})
	}
	return d, err
}

func (s *Server) robotsPage(v *visit) error {
	d, err := s.robotsData(v, newRobot{Days: "90"})
	if err != nil {
		return err
	}
	v.show("robots", web.Page{Title: "Robots", Section: "robots", Data: d})
	return nil
}

func (s *Server) addRobotForm(v *visit) error {
	typed := newRobot{
		v.typed("name"), v.typed("key"), v.typed("sources"), v.typed("targets"), v.typed("accounts"), v.typed("commands"), v.typed("days"), v.typed("note"),
	}
	n := NewRobot{
		Name: typed.Name, PublicKey: typed.Key, Sources: listOf(typed.Sources), Targets: listOf(typed.Targets), Accounts: listOf(typed.Accounts), Note: typed.Note,
	}
	for line := range strings.Lines(typed.Commands) { // a comma belongs to the command
		if line = strings.TrimSpace(line); line != "" {
			n.Commands = append(n.Commands, line)
		}
	}
	expires, err := s.inDays(typed.Days)
	if err == nil {
		n.Expires = expires
		_, err = s.addRobot(v.ctx(), v.by, n)
	}
	if err != nil {
		d, listing := s.robotsData(v, typed)
		if listing != nil {
			return listing
		}
		v.again(err, "robots", web.Page{Title: "Robots", Section: "robots", Data: d})
		return nil
	}
	return v.done("/robots", "Robot %s was added. It comes by: ssh %s@TARGET@bastion COMMAND", n.Name, n.Name)
}

// inDays is the time in so many days; nil for an empty text.
func (s *Server) inDays(text string) (*time.Time, error) {
	if text == "" {
		return nil, nil
	}
	days := 0
	for _, c := range text {
		if c < '0' || c > '9' || days > 100_000 {
			return nil, invalid("write a number of days, or nothing for never", "the time until it expires is not a number of days")
		}
		days = 10*days + int(c-'0')
	}
	at := s.cfg.Now().Add(time.Duration(days) * 24 * time.Hour)
	return &at, nil
}

func (s *Server) setRobotForm(enabled bool) func(*visit) error {
	return func(v *visit) error {
		r, err := s.changeRobot(v.ctx(), v.by, v.path("name"), RobotChange{Enabled: &enabled})
		switch {
		case err != nil:
			return err
		case enabled:
			return v.done("/robots", "%s may work again.", r.Name)
		}
		return v.done("/robots", "%s is refused from now on, and its sessions were ended.", r.Name)
	}
}

func (s *Server) confirmDeleteRobotPage(v *visit) error {
	r, err := s.robot(v.ctx(), v.path("name"))
	if err != nil {
		return err
	}
	return v.confirm("robots", "Remove a robot", confirmation{
		Question: "Remove the robot " + r.Name + "?", Consequence: "Its key opens nothing any more, and its sessions are ended. Past sessions, recordings and the audit log stay.",
		Action: within("robots", r.Name, "delete"), Button: "Remove " + r.Name, Cancel: "/robots",
	})
}

func (s *Server) deleteRobotForm(v *visit) error {
	if err := s.deleteRobot(v.ctx(), v.by, v.path("name")); err != nil {
		return err
	}
	return v.done("/robots", "The robot was removed.")
}
