package config

import (
	"log/slog"
	"time"
)

// hardStop is the most failures in a row of one person that a configuration may allow.
const hardStop = 100

// Default is the configuration of an empty file.
func Default() *Config {
	return &Config{
		Data:     "/var/lib/sallyport",
		Database: "sqlite",
		SSH:      SSH{Listen: ":2222"},
		Web:      Web{Listen: "127.0.0.1:8080"},
		OTP:      OTP{Window: 1, Issuer: "Sallyport", WithoutToken: WithoutToken{Within: Duration(7 * 24 * time.Hour)}},
		Trust:    Trust{IPv4: 32, IPv6: 64},
		Lockout: Lockout{
			Pair:   Limit{Enabled: true, Failures: 5, Window: Duration(5 * time.Minute), Lock: Duration(15 * time.Minute)},
			Source: Limit{Enabled: true, Failures: 10, Window: Duration(5 * time.Minute), Lock: Duration(30 * time.Minute)},
			User:   100, Longest: Duration(24 * time.Hour),
		},
		Places: Places{Within: Duration(time.Hour)},
		Guard: Guard{
			PerSource: 10,
			Total:     512,
			Handshake: Duration(10 * time.Second),
			Prompt:    Duration(2 * time.Minute),
			Enrolment: Duration(5 * time.Minute),
			Bytes:     64 << 10,
		},
		Recordings: Recordings{Reserve: 500 << 20, Search: true},
		Drain:      Duration(10 * time.Second),
		Log:        Log{Level: Level(slog.LevelInfo), Format: "json"},
	}
}

// setDefaults fills a section that is absent by default, once the file has it.
func setDefaults(section any) {
	switch s := section.(type) {
	case *Directory:
		s.Filter = "(uid={login})"
		s.KeyAttribute = "sshPublicKey"
		s.MailAttribute, s.MobileAttribute = "mail", "mobile"
		s.Timeout = Duration(2500 * time.Millisecond)
	case *Groups:
		s.Filter = "(member={dn})"
	case *SentCodes:
		*s = SentCodes{By: "off", PerPerson: 5, PerRecipient: 5, PerSource: 20, InAll: 200}
	case *AddressBook:
		s.Timeout, s.Cache = Duration(3*time.Second), Duration(time.Minute)
	case *Mail:
		s.Breaker = defaultBreaker
	case *MailServer:
		s.TLS, s.Timeout = "starttls", Duration(15*time.Second)
	case *SMS:
		s.Breaker = defaultBreaker
	case *SMSSender:
		s.Method, s.Timeout = "POST", Duration(15*time.Second)
	case *ObjectLock:
		s.Mode, s.Days = "governance", 30
	case *Notify:
		s.People, s.Events = true, []string{"lockout.set", "places.many", "code.replayed", "account.alarm", "hostkey.refused", "recording.failed"}
	}
}

var defaultBreaker = Breaker{Failures: 3, Pause: Duration(time.Minute)}

// Sample is a configuration that uses everything; docs/sallyport.example.yaml shows it.
func Sample() *Config {
	c := Default()
	c.Node = "bastion-1"
	c.SSH.Addresses = []Address{mustAddress("192.0.2.10")}
	c.Directory = sampleDirectory()
	c.Recordings.Local = "/var/lib/sallyport/recordings"
	return c
}

// everything is the sample with those sections too that most do without. The example shows them commented
// out.
func everything() *Config {
	c := Sample()
	c.SentCodes = &SentCodes{AddressBook: &AddressBook{}}
	setDefaults(c.SentCodes)
	c.SentCodes.By = "mail"
	c.SentCodes.AddressBook = &AddressBook{URL: "https://people.example.org/api/{login}", SecretFile: "/etc/sallyport/people-key", Path: "phones.mobile"}
	setDefaults(c.SentCodes.AddressBook)
	c.SentCodes.AddressBook.Headers = []string{"Authorization: Bearer {secret}"}
	server := MailServer{Server: "smtp.example.org:587", User: "sallyport", PasswordFile: "/etc/sallyport/smtp-password"}
	setDefaults(&server)
	c.Mail = &Mail{From: "sallyport@example.org", Servers: []MailServer{server}, Domains: []string{"example.org"}}
	setDefaults(c.Mail)
	sender := SMSSender{URL: "https://sms.example.org/send", SecretFile: "/etc/sallyport/sms-key", Success: `"queued"`, Body: `{"to": "{to}", "text": "{text}"}`}
	setDefaults(&sender)
	sender.Headers = []string{"Content-Type: application/json", "Authorization: Bearer {secret}"}
	c.SMS = &SMS{Country: "+49", Prefixes: []PhonePrefix{"+49"}, Senders: []SMSSender{sender}}
	setDefaults(c.SMS)
	c.Recordings.S3 = &S3{
		Endpoint: "https://s3.example.org", Bucket: "recordings", AccessKeyFile: "/etc/sallyport/s3-access-key", SecretKeyFile: "/etc/sallyport/s3-secret-key",
		PathStyle: true, ObjectLock: &ObjectLock{},
	}
	setDefaults(c.Recordings.S3.ObjectLock)
	c.Notify = &Notify{}
	setDefaults(c.Notify)
	c.Notify.Operators = []string{"ops@example.org"}
	return c
}

func sampleDirectory() *Directory {
	d := &Directory{Groups: &Groups{}}
	setDefaults(d)
	setDefaults(d.Groups)
	d.Servers = []Server{"ldaps://ldap1.example.org", "ldaps://ldap2.example.org"}
	d.BindDN = "cn=sallyport,ou=services,dc=example,dc=org"
	d.BindPasswordFile = "/etc/sallyport/ldap-password"
	d.Base = "ou=people,dc=example,dc=org"
	d.Groups.Base = "ou=groups,dc=example,dc=org"
	d.LoginGroup = "ssh-users"
	return d
}

func mustAddress(text string) Address {
	var a Address
	if err := a.set(text); err != nil {
		panic(err) // a constant of this package is wrong
	}
	return a
}
