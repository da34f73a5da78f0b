/**
 * TLS for clients that come over TCP: who this server is, and who may talk to it.
 *
 * Two kinds of identity, as libnbd and QEMU have them: certificates (the client's must be signed by the same authority),
 * or pre-shared keys (a name and a key for each client). There is no identity that lets anybody in.
 *
 * A connection begins in the clear and is upgraded after STARTTLS (proto.md, "TLS support").
 */
import type { Socket } from 'node:net'
import { createServer, type TLSSocket, type TlsOptions } from 'node:tls'

export type TlsIdentity =
  | {
      kind: 'certificates'
      /** PEM: the authority whose clients are let in, this server's certificate and its key. */
      ca: Uint8Array
      cert: Uint8Array
      key: Uint8Array
    }
  | {
      kind: 'psk'
      /** By the client's name. */
      keys: ReadonlyMap<string, Uint8Array>
    }

const MIN_VERSION = 'TLSv1.2'
/** For pre-shared keys below TLS 1.3: those with forward secrecy, and the plain one that old clients insist on. */
const PSK_CIPHERS =
  'ECDHE-PSK-CHACHA20-POLY1305:DHE-PSK-AES256-GCM-SHA384:DHE-PSK-AES128-GCM-SHA256:PSK-AES256-GCM-SHA384'
const PSK_CIPHERS_13 = 'TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256'

export class TlsUpgrade {
  readonly #options: TlsOptions

  /** @throws Error from OpenSSL where certificates or keys are none */
  constructor(identity: TlsIdentity) {
    this.#options = optionsOf(identity)
    // What is wrong with the identity shows now, not with the first client.
    createServer(this.#options)
  }

  /**
   * Goes on with `socket` under TLS. Either `done` is called, with a client that may talk to this server, or `failed`,
   * after which the socket is destroyed.
   */
  begin(socket: Socket, done: (secure: TLSSocket) => void, failed: (reason: string) => void): void {
    // A server for each connection, which never listens: so one knows whose handshake ended how.
    const server = createServer(this.#options)
    server.once('secureConnection', done)
    server.once('tlsClientError', (error: Error) => failed(error.message))
    server.emit('connection', socket)
  }
}

function optionsOf(identity: TlsIdentity): TlsOptions {
  if (identity.kind === 'certificates') {
    const { ca, cert, key } = identity
    return {
      ...{ ca: Buffer.from(ca), cert: Buffer.from(cert), key: Buffer.from(key) },
      requestCert: true,
      rejectUnauthorized: true,
      minVersion: MIN_VERSION
    }
  }
  const { keys } = identity
  return {
    pskCallback: (_socket, name) => keys.get(name) ?? null,
    ciphers: `${PSK_CIPHERS_13}:${PSK_CIPHERS}`,
    dhparam: 'auto',
    minVersion: MIN_VERSION
  }
}
