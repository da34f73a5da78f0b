/**
 * The path of a Unix socket: whether the system can take it, and whether it is free.
 */
import { lstat, unlink } from 'node:fs/promises'
import { createConnection } from 'node:net'
import { RowanError } from './errors.ts'

/** The system's sockaddr_un has room for 108 bytes on Linux and 104 elsewhere, with a zero behind the path. */
export const MAX_SOCKET_PATH_BYTES = process.platform === 'linux' ? 107 : 103

/** @throws RowanError SOCKET_PATH_TOO_LONG with the path and both lengths */
export function checkSocketPath(path: string): void {
  const bytes = Buffer.byteLength(path)
  if (bytes <= MAX_SOCKET_PATH_BYTES) return
  const text = `the socket path ${path} has ${bytes} bytes, ${MAX_SOCKET_PATH_BYTES} are allowed`
  throw new RowanError('SOCKET_PATH_TOO_LONG', text)
}

/**
 * Makes way for a new socket at `path`: a socket that nobody listens on any more is removed.
 *
 * @param inUse - the code for a live process that listens there
 * @throws RowanError LISTEN_FAILED when what is there is no socket, or cannot be looked at
 */
export async function freeSocketPath(
  path: string,
  inUse: 'LISTEN_FAILED' | 'HOME_IN_USE' = 'LISTEN_FAILED'
): Promise<void> {
  const stats = await lstat(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined
    throw new RowanError('LISTEN_FAILED', `${path} cannot be looked at: ${error.message}`, { cause: error })
  })
  if (stats === undefined) return
  if (!stats.isSocket()) throw new RowanError('LISTEN_FAILED', `${path} exists and is not a socket; move it away`)
  const problem = await connectProblem(path)
  if (problem === 'ENOENT') return
  if (problem === undefined) throw new RowanError(inUse, `another process listens on ${path}`)
  if (problem !== 'ECONNREFUSED') {
    throw new RowanError('LISTEN_FAILED', `${path} may be in use: connecting to it fails with ${problem}`)
  }
  await unlink(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return
    throw new RowanError('LISTEN_FAILED', `the old socket ${path} cannot be removed: ${error.message}`, {
      cause: error
    })
  })
}

/** The system's code for why nobody can be reached at `path`; undefined when somebody was. */
async function connectProblem(path: string): Promise<string | undefined> {
  return await new Promise(resolve => {
    const socket = createConnection({ path })
    socket.once('connect', () => {
      socket.destroy()
      resolve(undefined)
    })
    socket.once('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message))
  })
}
