/**
 * Folders with what TLS needs, made anew for each test: certificates by openssl, or pre-shared keys.
 */
import { randomBytes } from 'node:crypto'
import { chmod, copyFile, mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { runOk } from './processes.ts'

/** A certificate authority with the names of files that libnbd, QEMU and rowan expect. */
export class TestAuthority {
  readonly #folder: string

  private constructor(folder: string) {
    this.#folder = folder
  }

  /** @param folder - is made; of the authority alone */
  static async make(folder: string, name = 'rowan test authority'): Promise<TestAuthority> {
    await mkdir(folder)
    const authority = new TestAuthority(folder)
    await authority.#openssl(
      ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2'],
      ...['-keyout', 'ca-key.pem', '-out', 'ca-cert.pem', '-subj', `/CN=${name}`],
      ...['-addext', 'basicConstraints=critical,CA:TRUE', '-addext', 'keyUsage=critical,keyCertSign,cRLSign']
    )
    return authority
  }

  /** Puts the authority's certificate into `folder`, and a certificate and key for a server or a client. */
  async issue(folder: string, role: 'server' | 'client', options: { days?: number } = {}): Promise<void> {
    const { days = 2 } = options
    await mkdir(folder, { recursive: true })
    const extensions = [
      `extendedKeyUsage=${role}Auth`,
      'keyUsage=digitalSignature',
      ...(role === 'server' ? ['subjectAltName=DNS:localhost,IP:127.0.0.1,IP:10.0.2.100'] : [])
    ]
    await writeFile(join(this.#folder, 'extensions'), extensions.join('\n'))
    const [key, request, cert] = [join(folder, `${role}-key.pem`), 'request.pem', join(folder, `${role}-cert.pem`)]
    await this.#openssl(
      ...['req', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', key],
      ...['-out', request, '-subj', `/CN=rowan test ${role}`]
    )
    await this.#openssl(
      ...['x509', '-req', '-in', request, '-CA', 'ca-cert.pem', '-CAkey', 'ca-key.pem', '-CAcreateserial'],
      ...['-days', String(days), '-extfile', 'extensions', '-out', cert]
    )
    await chmod(key, 0o600)
    await copyFile(join(this.#folder, 'ca-cert.pem'), join(folder, 'ca-cert.pem'))
  }

  async #openssl(...args: string[]): Promise<void> {
    await runOk('openssl', args, { cwd: this.#folder })
  }
}

/** Writes `keys.psk` for one client, as psktool does, and returns its path. */
export async function writePskFolder(folder: string, user = 'rowan'): Promise<string> {
  await mkdir(folder, { recursive: true })
  const path = join(folder, 'keys.psk')
  await writeFile(path, `${user}:${randomBytes(32).toString('hex')}\n`, { mode: 0o600 })
  return path
}
