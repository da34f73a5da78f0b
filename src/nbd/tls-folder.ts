/**
 * The folder with what a server needs for TLS, under the names that libnbd and QEMU use.
 *
 *     ca-cert.pem, server-cert.pem, server-key.pem     certificates; clients need one of the same authority
 *     keys.psk                                          or pre-shared keys: NAME:KEY in hexadecimal, one a line
 *
 * Secrets that others can read are none, so they are refused.
 */
import { readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { asRowanError, RowanError } from '../errors.ts'
import { type TlsIdentity, TlsUpgrade } from './tls.ts'

const PSK_FILE = 'keys.psk'
/** Clients of one server. */
const MAX_PSK_KEYS = 1_024
const MAX_FILE_BYTES = 1024 * 1024
/** 128 bits; psktool makes 256. */
const MIN_KEY_BYTES = 16
const OTHERS = 0o077

/**
 * The identity that a folder holds.
 *
 * @throws RowanError TLS_INVALID when something is missing, damaged, or readable by others
 */
export async function readTlsFolder(folder: string): Promise<TlsIdentity> {
  const psk = await read(folder, PSK_FILE, true)
  const identity: TlsIdentity =
    psk === undefined
      ? {
          kind: 'certificates',
          ca: await readNeeded(folder, 'ca-cert.pem', false),
          cert: await readNeeded(folder, 'server-cert.pem', false),
          key: await readNeeded(folder, 'server-key.pem', true)
        }
      : { kind: 'psk', keys: parseKeys(psk.toString(), join(folder, PSK_FILE)) }
  try {
    new TlsUpgrade(identity)
  } catch (error) {
    throw asRowanError(error, 'TLS_INVALID', `the certificates of ${folder} cannot be used`)
  }
  return identity
}

/** Lines `NAME:KEY`; empty ones and those that begin with # are passed over. */
function parseKeys(text: string, path: string): Map<string, Uint8Array> {
  const keys = new Map<string, Uint8Array>()
  for (const [index, line] of text.split(/\r?\n/).entries()) {
    if (line === '' || line.startsWith('#')) continue
    const [, name, hex] = /^([^:]+):((?:[0-9a-fA-F]{2})+)$/.exec(line) ?? []
    const refuse = (why: string) => new RowanError('TLS_INVALID', `${path}, line ${index + 1}: ${why}`)
    if (name === undefined || hex === undefined) throw refuse('not NAME:KEY with a key in hexadecimal')
    if (hex.length < 2 * MIN_KEY_BYTES) throw refuse(`a key has at least ${8 * MIN_KEY_BYTES} bits`)
    if (keys.has(name)) throw refuse(`${name} has a key already`)
    if (keys.size === MAX_PSK_KEYS) throw refuse(`more than ${MAX_PSK_KEYS} keys`)
    keys.set(name, Buffer.from(hex, 'hex'))
  }
  if (keys.size === 0) throw new RowanError('TLS_INVALID', `${path} has no key`)
  return keys
}

async function readNeeded(folder: string, name: string, isSecret: boolean): Promise<Buffer> {
  const bytes = await read(folder, name, isSecret)
  if (bytes === undefined) throw new RowanError('TLS_INVALID', `${join(folder, name)} is missing`)
  return bytes
}

async function read(folder: string, name: string, isSecret: boolean): Promise<Buffer | undefined> {
  const path = join(folder, name)
  try {
    const { mode, size } = await stat(path)
    if (isSecret && (mode & OTHERS) !== 0) {
      throw new RowanError('TLS_INVALID', `others can read ${path}; \`chmod 600\` it, and better make a new one`)
    }
    if (size > MAX_FILE_BYTES) throw new RowanError('TLS_INVALID', `${path} is larger than ${MAX_FILE_BYTES} bytes`)
    return await readFile(path)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw asRowanError(error, 'TLS_INVALID', path)
  }
}
