/**
 * Where clients come in: a Unix socket for this host's owner, or a TCP port behind TLS.
 *
 * Only its owner may connect to a Unix socket (mode 0600, in a folder of its owner's alone). A socket file that a dead
 * process left behind is replaced; one that somebody listens on never is. There are no settings for TCP without TLS,
 * not even on the loopback: every guest of a host may reach that.
 */
import { chmod } from 'node:fs/promises'
import { type AddressInfo, createServer, type ListenOptions, type Server, type Socket } from 'node:net'
import type { Log } from '../environment.ts'
import { RowanError } from '../errors.ts'
import { checkSocketPath, freeSocketPath } from '../socket-path.ts'
import { type TlsIdentity, TlsUpgrade } from './tls.ts'

/** Within this time a dead client of a TCP connection is asked whether it lives. */
const KEEP_ALIVE_MS = 60_000

export type ListenerSettings =
  | {
      kind: 'unix'
      /** In a folder that is its owner's alone. */
      path: string
    }
  | {
      kind: 'tcp'
      host: string
      /** 0 for any that is free. */
      port: number
      tls: TlsIdentity
    }

/** A client, and what it must do before it is served. */
export type OnSocket = (socket: Socket, tls: TlsUpgrade | undefined) => void

export class Listener {
  readonly #server: Server
  readonly #where: string

  private constructor(server: Server, where: string) {
    this.#server = server
    this.#where = where
  }

  /** @throws RowanError SOCKET_PATH_TOO_LONG, LISTEN_FAILED, TLS_INVALID */
  static async open(
    settings: ListenerSettings,
    components: { log: Log; onSocket: OnSocket },
    limits: { maxConnections: number }
  ): Promise<Listener> {
    const { log, onSocket } = components
    const { maxConnections } = limits
    const tls = settings.kind === 'tcp' ? upgradeOf(settings.tls) : undefined
    // A client that has sent its last request may close its half and still wants the replies: allowHalfOpen.
    const server = createServer({ allowHalfOpen: true, noDelay: true }, socket => {
      if (tls !== undefined) socket.setKeepAlive(true, KEEP_ALIVE_MS)
      onSocket(socket, tls)
    })
    server.maxConnections = maxConnections
    server.on('drop', () => log.warn('an NBD client was turned away', { code: 'LIMIT_EXCEEDED', maxConnections }))
    if (settings.kind === 'unix') await listenUnix(server, settings.path)
    else await listen(server, { host: settings.host, port: settings.port }, `${settings.host}:${settings.port}`)
    server.on('error', error => log.warn('the NBD socket failed', { code: 'LISTEN_FAILED', error }))
    return new Listener(server, describe(server))
  }

  /** The socket's path, or HOST:PORT as it became. */
  get where(): string {
    return this.#where
  }

  /** Takes no new clients; done when those that it took are gone. */
  async close(): Promise<void> {
    await new Promise<void>(resolve => this.#server.close(() => resolve()))
  }
}

function upgradeOf(identity: TlsIdentity): TlsUpgrade {
  try {
    return new TlsUpgrade(identity)
  } catch (error) {
    throw new RowanError('TLS_INVALID', `TLS cannot be had: ${(error as Error).message}`, { cause: error })
  }
}

/**
 * Between this and the change of its mode the socket is as open as the umask makes it, so the folder that it lies in must
 * be its owner's alone. (A narrow umask for the moment is not to be had in a worker thread.)
 */
async function listenUnix(server: Server, path: string): Promise<void> {
  checkSocketPath(path)
  await freeSocketPath(path)
  await listen(server, { path }, path)
  await chmod(path, 0o600).catch((error: unknown) => {
    server.close()
    throw new RowanError('LISTEN_FAILED', `${path} cannot be closed to other users`, { cause: error })
  })
}

async function listen(server: Server, options: ListenOptions, where: string): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      reject(new RowanError('LISTEN_FAILED', `cannot listen on ${where}: ${error.message}`, { cause: error }))
    })
    server.listen(options, resolve)
  })
  server.removeAllListeners('error')
}

function describe(server: Server): string {
  const address = server.address() as AddressInfo | string
  if (typeof address === 'string') return address
  return address.family === 'IPv6' ? `[${address.address}]:${address.port}` : `${address.address}:${address.port}`
}
