package admin

import (
	"time"

	"sallyport/audit"
	"sallyport/store"
)

// RadiusClient is a VPN server, gateway or the like that asks by RADIUS.
type RadiusClient struct {
	ID                        string     `json:"id"`
	Name                      string     `json:"name" doc:"what rules call a target, with the channel word radius"`
	State                     string     `json:"state" enum:"ok,disabled"`
	Networks                  []string   `json:"networks" nullable:"false" doc:"addresses that it asks from"`
	NASIdentifier             string     `json:"nas_identifier" doc:"that it must send, to be told from others at the same addresses; empty: any"`
	Certificate               string     `json:"certificate" doc:"SHA-256 of the certificate by which it comes by TLS (RadSec), in hexadecimal digits; empty: by UDP"`
	CertificateName           string     `json:"certificate_name" doc:"name in its certificate of an authority, by which it comes by TLS: dns:, ip: or uri: and the name; empty: by none"`
	Mode                      string     `json:"mode" enum:"code,password+code,challenge"`
	Separator                 string     `json:"separator" doc:"between password and code; empty: the code is as long as those of the person's tokens"`
	MessageAuthenticator      string     `json:"message_authenticator" enum:"yes,no,auto" doc:"whether requests without Message-Authenticator are discarded"`
	MessageAuthenticatorSince *time.Time `json:"message_authenticator_since" doc:"with auto: since when it is demanded"`
	SendsMessageAuthenticator bool       `json:"sends_message_authenticator" doc:"whether answers carry one"`
	AssertsSource             bool       `json:"asserts_source" doc:"whether what it says about the person's address is believed"`
	SourceAttribute           string     `json:"source_attribute" doc:"attribute with that address"`
	Remember                  int64      `json:"remember" doc:"seconds in which a person at the same Calling-Station-Id is not asked for another code; 0: always asked"`
	CHAP                      bool       `json:"chap" doc:"whether CHAP is answered; only with mode code"`
	LegacyMSCHAPv2            bool       `json:"legacy_mschapv2" doc:"whether MS-CHAPv2 is answered, which protects nothing any more; only with mode code"`
	Note                      string     `json:"note"`
	Created                   *time.Time `json:"created"`
}

// NewRadiusClient asks for a client.
type NewRadiusClient struct {
	Name string `json:"name" minLength:"1" maxLength:"63"`
	RadiusClientChange
}

// RadiusClientChange changes what it names.
type RadiusClientChange struct {
	Networks                  []string `json:"networks,omitempty" nullable:"false" maxItems:"50" doc:"addresses and networks that it asks from"`
	Secret                    string   `json:"secret,omitempty" maxLength:"128" doc:"shared secret, at least 16 characters"`
	GenerateSecret            bool     `json:"generate_secret,omitempty" doc:"make a new secret; of a new client also if none is given"`
	NASIdentifier             *string  `json:"nas_identifier,omitempty" maxLength:"253"`
	Certificate               *string  `json:"certificate,omitempty" maxLength:"110" doc:"SHA-256 in hexadecimal digits, with or without colons"`
	CertificateName           *string  `json:"certificate_name,omitempty" maxLength:"300" doc:"takes the place of certificate: dns:vpn.example.org, ip:192.0.2.20 or uri:…, a subject alternative name as it stands in the certificate"`
	Mode                      string   `json:"mode,omitempty" enum:"code,password+code,challenge" doc:"of a new client: challenge if absent"`
	Separator                 *string  `json:"separator,omitempty" maxLength:"4"`
	MessageAuthenticator      string   `json:"message_authenticator,omitempty" enum:"yes,no,auto" doc:"of a new client: yes if absent"`
	SendsMessageAuthenticator *bool    `json:"sends_message_authenticator,omitempty" doc:"of a new client: true if absent"`
	AssertsSource             *bool    `json:"asserts_source,omitempty"`
	SourceAttribute           string   `json:"source_attribute,omitempty" maxLength:"40" doc:"of a new client: Calling-Station-Id if absent"`
	Remember                  *int64   `json:"remember,omitempty" minimum:"0" maximum:"2592000" doc:"seconds"`
	CHAP                      *bool    `json:"chap,omitempty"`
	LegacyMSCHAPv2            *bool    `json:"legacy_mschapv2,omitempty"`
	Note                      *string  `json:"note,omitempty" maxLength:"500"`
	Enabled                   *bool    `json:"enabled,omitempty"`
}

// RadiusClientSecret is a client with its secret, which is shown this once.
type RadiusClientSecret struct {
	Client RadiusClient `json:"client"`
	Secret string       `json:"secret,omitempty" doc:"if it was made here"`
}

// RadiusCount is how often something was heard of a client.
type RadiusCount struct {
	Kind   string     `json:"kind"`
	Times  int64      `json:"times"`
	Last   *time.Time `json:"last"`
	Detail string     `json:"detail" doc:"of the last one"`
}

// RadiusFinding is what a look at a client has found.
type RadiusFinding struct {
	Level string `json:"level" enum:"ok,warning,error"`
	Text  string `json:"text"`
	Hint  string `json:"hint,omitempty"`
}

// RadiusDoctor is how a client does.
type RadiusDoctor struct {
	Client   RadiusClient    `json:"client"`
	LastSeen *time.Time      `json:"last_seen"`
	Findings []RadiusFinding `json:"findings" nullable:"false"`
	Counts   []RadiusCount   `json:"counts" nullable:"false"`
}

func wireRadiusClient(c store.RadiusClient) RadiusClient {
	w := RadiusClient{
		ID: c.ID, Name: c.Name, State: "ok", Networks: c.Networks, NASIdentifier: c.NASIdentifier, Certificate: c.Certificate, CertificateName: c.CertificateName, Mode: c.Mode, Separator: c.Separator,
		MessageAuthenticator: c.MessageAuthenticator, SendsMessageAuthenticator: c.SendsAuthenticator,
		AssertsSource: c.AssertsSource, SourceAttribute: radiusAttributes[c.SourceAttribute], Remember: int64(c.Remember / time.Second), CHAP: c.CHAP, LegacyMSCHAPv2: c.LegacyMSCHAPv2,
		Note: c.Note, Created: timeOf(c.Created),
	}
	if c.MessageAuthenticator == store.AuthenticatorAuto {
		w.MessageAuthenticatorSince = timeOf(c.Authenticated)
	}
	if !c.Enabled {
		w.State = "disabled"
	}
	return w
}

func wireRadiusCount(c store.RadiusCount) RadiusCount {
	return RadiusCount{Kind: c.Kind, Times: c.Times, Last: timeOf(c.Last), Detail: audit.Escape(c.Detail)}
}
