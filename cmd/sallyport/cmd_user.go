package main

import (
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sallyport/admin"
	"sallyport/internal/web"
)

func userCommand(g *globals) *cobra.Command {
	return group("user", "People who may sign in",
		userAddCommand(g), userListCommand(g), userShowCommand(g), userDeleteCommand(g),
		userLockCommand(g), userUnlockCommand(g), userLockoutCommand(g), userPasswordCommand(g), userGroupsCommand(g), userContactCommand(g), userPlacesCommand(g),
		userEnrolLinkCommand(g), userSendEnrolmentCommand(g), userWithoutTokenCommand(g),
		userImportCommand(g), userExportCommand(g), userBypassCommand(g), userBypassListCommand(g), userBypassRemoveCommand(g),
		group("key", "Public keys that stand for the password", keyAddCommand(g), keyListCommand(g), keyDeleteCommand(g)),
	)
}

// shownUser is a user with the password that was made for them, which is shown this once.
type shownUser struct {
	admin.User
	Password string `json:"password,omitempty"`
}

func userAddCommand(g *globals) *cobra.Command {
	var in admin.NewUser
	var file string
	var generate, none bool
	c := action(g, "add LOGIN", "Add a local user", cobra.ExactArgs(1), func(c *cobra.Command, api *client, args []string) error {
		in.Login = args[0]
		made := false
		if none && (generate || file != "") {
			return usage("Give one of them.", "--no-password excludes --password-file and --generate")
		}
		if !none {
			var err error
			if in.Password, made, err = g.newPassword(file, generate); err != nil {
				return err
			}
		}
		var u admin.User
		if err := api.call(c.Context(), http.MethodPost, "/users", in, &u); err != nil {
			return err
		}
		return g.showPassword(u, in.Password, made, "added user "+u.Login)
	})
	f := c.Flags()
	f.StringVar(&in.Name, "name", "", "name in full")
	f.StringVar(&in.Email, "email", "", "e-mail address")
	f.StringVar(&in.Phone, "phone", "", "telephone number for codes, such as +49 151 12345678")
	f.StringArrayVar(&in.Groups, "group", nil, "group, may be repeated")
	f.StringVar(&file, "password-file", "", "file with the password (- for standard input)")
	f.BoolVar(&generate, "generate", false, "make a password and print it once")
	f.BoolVar(&none, "no-password", false, "no password: the user comes with a public key")
	return c
}

// showPassword prints a password that was made, on standard output and this once.
func (g *globals) showPassword(u admin.User, password string, made bool, what string) error {
	if !made {
		return g.done(u, "%s", what)
	}
	if !g.json() {
		g.say("%s; the password is shown this once:", what)
	}
	return g.printFields(shownUser{u, password}, "login", u.Login, "password", password)
}

func userListCommand(g *globals) *cobra.Command {
	var query string
	c := action(g, "list", "List users, newest first", cobra.NoArgs, func(c *cobra.Command, api *client, _ []string) error {
		var users []admin.User
		q := url.Values{}
		if query != "" {
			q.Set("query", query)
		}
		if err := api.get(c.Context(), "/users", q, &users); err != nil {
			return err
		}
		return printList(g, users, "No users. Add one: sallyport user add LOGIN", []string{"LOGIN", "NAME", "SOURCE", "GROUPS", "TOKENS", "STATE", "LAST LOGIN"},
			func(u admin.User) []string {
				return []string{u.Login, u.Name, u.Source, joined(u.Groups), itoa(u.Tokens), userState(u), clock(u.LastLogin)}
			})
	})
	c.Flags().StringVar(&query, "query", "", "part of login, name or e-mail address")
	return c
}

func userState(u admin.User) string {
	switch {
	case u.Locked && u.LockedUntil != nil:
		return "locked until " + clock(u.LockedUntil)
	case u.Locked:
		return "locked"
	case u.Tokens == 0:
		return "no token"
	}
	return "ok"
}

// userLockout says when failures lock a user, where that is stricter than for everybody.
func userLockout(l admin.UserLockout) string {
	var words []string
	if l.Failures > 0 {
		words = append(words, web.Plural(l.Failures, "failure", "failures"))
	}
	if l.Window > 0 {
		words = append(words, "in "+(time.Duration(l.Window)*time.Second).String())
	}
	if l.Lock > 0 {
		words = append(words, "for "+(time.Duration(l.Lock)*time.Second).String())
	}
	return strings.Join(words, " ")
}

func userShowCommand(g *globals) *cobra.Command {
	return action(g, "show LOGIN", "Show a user", cobra.ExactArgs(1), func(c *cobra.Command, api *client, args []string) error {
		var u admin.User
		if err := api.get(c.Context(), route("users", args[0]), nil, &u); err != nil {
			return err
		}
		return g.printFields(u, "id", u.ID, "login", u.Login, "name", u.Name, "e-mail", u.Email, "telephone", u.Phone, "codes", codesBy(u), "source", u.Source,
			"groups", joined(u.Groups), "state", userState(u), "lock reason", u.LockReason, "lockout", userLockout(u.Lockout), "password", yesNo(u.HasPassword),
			"tokens", itoa(u.Tokens), "created", clock(u.Created), "last login", clock(u.LastLogin))
	})
}

func userDeleteCommand(g *globals) *cobra.Command {
	var yes bool
	c := action(g, "delete LOGIN", "Delete a user with tokens, keys and role, and end their sessions", cobra.ExactArgs(1),
		func(c *cobra.Command, api *client, args []string) error {
			if !yes && !g.confirm("Delete user "+args[0]+" with tokens and keys, and end their sessions?", true) {
				return failed("Answer y, or use --yes.", "nothing was deleted")
			}
			if err := api.call(c.Context(), http.MethodDelete, route("users", args[0]), nil, nil); err != nil {
				return err
			}
			return g.done(gone{args[0], true}, "deleted user %s", args[0])
		})
	c.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return c
}

func userLockCommand(g *globals) *cobra.Command {
	var reason, length string
	c := action(g, "lock LOGIN", "Refuse a user from now on, and end their sessions", cobra.ExactArgs(1),
		func(c *cobra.Command, api *client, args []string) error {
			in := admin.NewLock{Reason: reason}
			if length != "" {
				d, err := parseDuration(length)
				if err != nil {
					return err
				}
				until := time.Now().Add(d)
				in.Until = &until
			}
			var u admin.User
			if err := api.call(c.Context(), http.MethodPut, route("users", args[0], "lock"), in, &u); err != nil {
				return err
			}
			return g.done(u, "locked user %s; undo it by: sallyport user unlock %s", u.Login, u.Login)
		})
	c.Flags().StringVar(&reason, "reason", "", "reason, for the audit log and other operators")
	c.Flags().StringVar(&length, "for", "", "length of time, such as 8h or 7d (default: until unlocked)")
	return c
}

func userLockoutCommand(g *globals) *cobra.Command {
	var in admin.UserLockout
	var window, lock string
	c := action(g, "lockout LOGIN", "Set when wrong answers lock a user at one address, stricter than for everybody; without flags: as everybody", cobra.ExactArgs(1),
		func(c *cobra.Command, api *client, args []string) error {
			for _, f := range []struct {
				text string
				into *int64
			}{{window, &in.Window}, {lock, &in.Lock}} {
				if f.text == "" {
					continue
				}
				d, err := parseDuration(f.text)
				if err != nil {
					return err
				}
				*f.into = int64(d.Seconds())
			}
			var u admin.User
			if err := api.call(c.Context(), http.MethodPut, route("users", args[0], "lockout"), in, &u); err != nil {
				return err
			}
			if in == (admin.UserLockout{}) {
				return g.done(u, "user %s is locked as everybody is", u.Login)
			}
			return g.done(u, "set the lockout of user %s", u.Login)
		})
	c.Flags().IntVar(&in.Failures, "failures", 0, "wrong answers that lead to a lock")
	c.Flags().StringVar(&window, "window", "", "time in which they count together, such as 10m")
	c.Flags().StringVar(&lock, "lock", "", "how long the lock holds, such as 1h")
	return c
}

func userUnlockCommand(g *globals) *cobra.Command {
	return action(g, "unlock LOGIN", "Take back a lock", cobra.ExactArgs(1), func(c *cobra.Command, api *client, args []string) error {
		var u admin.User
		if err := api.call(c.Context(), http.MethodPost, route("users", args[0], "unlock"), nil, &u); err != nil {
			return err
		}
		return g.done(u, "unlocked user %s; locks after failures are listed by: sallyport lockout list", u.Login)
	})
}

func userPasswordCommand(g *globals) *cobra.Command {
	var file string
	var generate bool
	c := action(g, "password LOGIN", "Replace a local user's password", cobra.ExactArgs(1), func(c *cobra.Command, api *client, args []string) error {
		password, made, err := g.newPassword(file, generate)
		if err != nil {
			return err
		}
		var u admin.User
		if err := api.call(c.Context(), http.MethodPut, route("users", args[0], "password"), admin.NewPassword{Password: password}, &u); err != nil {
			return err
		}
		return g.showPassword(u, password, made, "replaced the password of "+u.Login)
	})
	c.Flags().StringVar(&file, "password-file", "", "file with the password (- for standard input)")
	c.Flags().BoolVar(&generate, "generate", false, "make a password and print it once")
	return c
}

func userGroupsCommand(g *globals) *cobra.Command {
	return action(g, "groups LOGIN [GROUP…]", "Replace a local user's groups by those named", cobra.MinimumNArgs(1),
		func(c *cobra.Command, api *client, args []string) error {
			var u admin.User
			in := admin.NewGroups{Groups: append([]string{}, args[1:]...)}
			if err := api.call(c.Context(), http.MethodPut, route("users", args[0], "groups"), in, &u); err != nil {
				return err
			}
			return g.done(u, "%s is now in: %s", u.Login, orNone(joined(u.Groups)))
		})
}

func keyAddCommand(g *globals) *cobra.Command {
	var in admin.NewUserKey
	var file string
	c := action(g, "add LOGIN [KEY]", "Let a public key stand for the password", cobra.RangeArgs(1, 2),
		func(c *cobra.Command, api *client, args []string) error {
			switch {
			case len(args) == 2 && file == "":
				in.PublicKey = args[1]
			case len(args) == 1 && file != "":
				text, err := g.readInput(file)
				if err != nil {
					return err
				}
				in.PublicKey = string(text)
			default:
				return usage("Usage: "+c.UseLine(), "give the key in quotes, or --key-file FILE (- for standard input)")
			}
			var k admin.UserKey
			if err := api.call(c.Context(), http.MethodPost, route("users", args[0], "keys"), in, &k); err != nil {
				return err
			}
			return g.done(k, "added key %s (%s)", k.Fingerprint, k.Name)
		})
	c.Flags().StringVar(&in.Name, "name", "", "name (default: the key's comment)")
	c.Flags().StringVar(&file, "key-file", "", "file with the public key, such as ~/.ssh/id_ed25519.pub (- for standard input)")
	return c
}

func keyListCommand(g *globals) *cobra.Command {
	return action(g, "list LOGIN", "List a user's public keys", cobra.ExactArgs(1), func(c *cobra.Command, api *client, args []string) error {
		var keys []admin.UserKey
		if err := api.get(c.Context(), route("users", args[0], "keys"), nil, &keys); err != nil {
			return err
		}
		return printList(g, keys, "No keys. Add one: sallyport user key add "+args[0]+" --key-file ~/.ssh/id_ed25519.pub",
			[]string{"ID", "NAME", "FINGERPRINT", "CREATED", "LAST USED"},
			func(k admin.UserKey) []string {
				return []string{k.ID, k.Name, k.Fingerprint, clock(k.Created), clock(k.LastUsed)}
			})
	})
}

func keyDeleteCommand(g *globals) *cobra.Command {
	return action(g, "delete LOGIN ID", "Take a public key from a user", cobra.ExactArgs(2), func(c *cobra.Command, api *client, args []string) error {
		if err := api.call(c.Context(), http.MethodDelete, route("users", args[0], "keys", args[1]), nil, nil); err != nil {
			return err
		}
		return g.done(gone{args[1], true}, "deleted the key")
	})
}
