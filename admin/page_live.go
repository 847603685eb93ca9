package admin

import (
	"strconv"

	"sallyport/audit"
	"sallyport/internal/web"
	"sallyport/signin"
	"sallyport/store"
)

// livePage is the dot of the page on which a session is watched.
type livePage struct {
	sessionView
	Socket  string // path of the WebSocket
	Channel int    // 0: the first that runs something
	Player  bool
	Others  []Watching
	Running []store.Channel // that can be watched
	Self    string          // address of this page without a channel
}

func (s *Server) watchPage(v *visit) error {
	x, err := s.session(v.ctx(), v.path("id"))
	if err != nil {
		return err
	}
	if x.State != store.Live && v.r.Header.Get(signin.RefreshHeader) == "" {
		return v.redirect(within("sessions", x.ID))
	}
	d := livePage{sessionView: s.viewSession(x), Player: s.web.player, Self: within("sessions", x.ID, "live")}
	if d.Channel, err = channelNumber(v.query("channel")); err != nil {
		return err
	}
	d.Socket = apiPath + within("sessions", x.ID, "live", "socket")
	if d.Channel != 0 {
		d.Socket = address(d.Socket, "channel", strconv.Itoa(d.Channel))
	}
	for _, c := range x.Channels {
		if c.Ended.IsZero() && c.Kind != "sftp" {
			d.Running = append(d.Running, c)
		}
	}
	if d.Others, err = s.watchers(v.ctx(), x.ID); err != nil {
		return err
	}
	v.show("live", web.Page{Title: "Watching " + audit.Escape(x.User), Section: "sessions", Wide: true, Refresh: x.State == store.Live, Data: d})
	return nil
}

// channelNumber reads the number of a channel; "" is 0.
func channelNumber(typed string) (int, error) {
	if typed == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(typed)
	if err != nil || n < 0 || n > 9999 {
		return 0, invalid("leave it out for the first that runs something", "%s is not the number of a channel", audit.Quote(typed))
	}
	return n, nil
}
