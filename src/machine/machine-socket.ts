/**
 * Where the disk of a machine is served: a socket of its own, `HOME/nbd/NAME.sock`.
 *
 * The path depends on nothing but home and name, so that a guest finds its disk again after the daemon was restarted.
 * A name may be too long for a socket's path; then a part of its hash stands for it, behind a `_`, with which no name
 * begins.
 */
import { readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { asRowanError } from '../errors.ts'
import { sha256, toHex } from '../image/hash.ts'
import { checkSocketPath, MAX_SOCKET_PATH_BYTES } from '../socket-path.ts'

const SUFFIX = '.sock'
/** 48 bits: two of a thousand machines share them once in half a billion homes. */
const HASH_DIGITS = 12

/** The socket of the machine `name`, in the folder of all machines' sockets. */
export function machineSocket(folder: string, name: string): string {
  const path = join(folder, `${name}${SUFFIX}`)
  return Buffer.byteLength(path) <= MAX_SOCKET_PATH_BYTES ? path : join(folder, shortName(name))
}

/** @throws RowanError SOCKET_PATH_TOO_LONG when the folder has no room for the socket of some machine */
export function checkSocketFolder(folder: string): void {
  checkSocketPath(join(folder, shortName('')))
}

/** The name under which a machine's data disk is exported. No machine's name has a slash. */
export function dataExport(machine: string): string {
  return `${machine}/data`
}

/** An NBD URI: the export of this name behind a socket. */
export function nbdUri(name: string, socketPath: string): string {
  return `nbd+unix:///${name}?socket=${encodeURI(socketPath).replace(/[?#&+]/g, encodeURIComponent)}`
}

/** The socket's path in what `nbdUri` gave. */
export function socketOfUri(uri: string): string {
  return new URL(uri).searchParams.get('socket') ?? ''
}

/**
 * Removes the sockets that a daemon which died has left: whoever holds the home's lock is the only one to make any.
 *
 * @throws RowanError HOME_UNUSABLE
 */
export function sweepSockets(folder: string): void {
  try {
    for (const file of readdirSync(folder)) if (file.endsWith(SUFFIX)) rmSync(join(folder, file))
  } catch (error) {
    throw asRowanError(error, 'HOME_UNUSABLE', folder)
  }
}

function shortName(name: string): string {
  return `_${toHex(sha256(Buffer.from(name))).slice(0, HASH_DIGITS)}${SUFFIX}`
}
