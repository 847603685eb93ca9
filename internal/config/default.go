package config

import (
	"log/slog"
	"time"
)

// Default is the configuration of an empty file.
func Default() *Config {
	return &Config{
		Data:     "/var/lib/sallyport",
		Database: "sqlite",
		SSH:      SSH{Listen: ":2222"},
		Web:      Web{Listen: "127.0.0.1:8080"},
		OTP:      OTP{Window: 1, Issuer: "Sallyport"},
		Trust:    Trust{IPv4: 32, IPv6: 64},
		Lockout: Lockout{
			Pair:   Limit{Failures: 5, Window: Duration(5 * time.Minute), Lock: Duration(15 * time.Minute)},
			Source: Limit{Failures: 10, Window: Duration(5 * time.Minute), Lock: Duration(30 * time.Minute)},
			User:   100, Longest: Duration(24 * time.Hour),
		},
		Guard: Guard{
			PerSource: 10,
			Total:     512,
			Handshake: Duration(10 * time.Second),
			Prompt:    Duration(2 * time.Minute),
			Enrolment: Duration(5 * time.Minute),
			Bytes:     64 << 10,
		},
		Recordings: Recordings{Reserve: 500 << 20},
		Drain:      Duration(10 * time.Second),
		Log:        Log{Level: Level(slog.LevelInfo), Format: "json"},
	}
}

// setDefaults fills a section that is absent by default, once the file has it.
func setDefaults(section any) {
	if d, ok := section.(*Directory); ok {
		d.Filter = "(uid={login})"
		d.KeyAttribute = "sshPublicKey"
		d.Timeout = Duration(2500 * time.Millisecond)
	}
	if g, ok := section.(*Groups); ok {
		g.Filter = "(member={dn})"
	}
}

// Sample is a configuration that uses everything; docs/sallyport.example.yaml shows it.
func Sample() *Config {
	c := Default()
	c.Node = "bastion-1"
	c.SSH.Addresses = []Address{mustAddress("192.0.2.10")}
	c.Directory = sampleDirectory()
	c.Recordings.Local = "/var/lib/sallyport/recordings"
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
