/**
 * TLS with clients that nobody here wrote: libnbd's tools and QEMU's, with certificates and with pre-shared keys. Both
 * use GnuTLS, and this server OpenSSL.
 */
import { copyFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { TestAuthority, writePskFolder } from '../tools/certificates.ts'
import { hashFile } from '../tools/files.ts'
import { removeFolders, temporaryFolder } from '../tools/folders.ts'
import { writeSampleImage } from '../tools/local-machine.ts'
import { nbdsh } from '../tools/nbdsh.ts'
import { describeWithTools } from '../tools/need.ts'
import { endProcesses, run, runOk, start } from '../tools/processes.ts'

const SERVE = fileURLToPath(new URL('../tools/nbd-serve.ts', import.meta.url))
const SIZE_BYTES = 8 * 1024 * 1024

interface Served {
  folder: string
  image: string
  address: string
  /** What libnbd needs in a URI, and QEMU as an object. */
  parameters: string
  scheme: string
  tlsObject: string
}

async function serveTls(kind: 'certificates' | 'psk'): Promise<Served> {
  const folder = await temporaryFolder()
  const [server, client] = [join(folder, 'server'), join(folder, 'client')]
  const image = join(folder, 'image.raw')
  await writeSampleImage(image, SIZE_BYTES)
  await copyFile(image, join(folder, 'served.raw'))
  let access: Pick<Served, 'parameters' | 'scheme' | 'tlsObject'>
  if (kind === 'psk') {
    const keys = await writePskFolder(server, 'rowan')
    access = {
      scheme: 'nbds://rowan@',
      parameters: `tls-psk-file=${keys}`,
      tlsObject: `tls-creds-psk,id=tls0,dir=${server},endpoint=client,username=rowan`
    }
  } else {
    const authority = await TestAuthority.make(join(folder, 'ca'))
    await authority.issue(server, 'server')
    await authority.issue(client, 'client')
    access = {
      scheme: 'nbds://',
      parameters: `tls-certificates=${client}`,
      tlsObject: `tls-creds-x509,id=tls0,dir=${client},endpoint=client,verify-peer=on`
    }
  }
  const args = [SERVE, join(folder, 's'), `file:disk=${join(folder, 'served.raw')}`, `tls:127.0.0.1:0=${server}`]
  const { output } = await listening(args)
  return { folder, image, address: output, ...access }
}

async function listening(args: string[]): Promise<{ output: string }> {
  const server = start(process.execPath, args)
  const [, output] = await server.waitForOutput(/tcp (\S+)[\s\S]*ready/)
  return { output: output! }
}

afterAll(async () => {
  await endProcesses()
  await removeFolders()
})

for (const kind of ['certificates', 'psk'] as const) {
  describeWithTools(`TLS with ${kind}`, ['nbdinfo', 'nbdcopy', 'nbdsh', 'qemu-img', 'qemu-io', 'openssl'], () => {
    let served: Served
    let uri: string
    beforeAll(async () => {
      served = await serveTls(kind)
      uri = `${served.scheme}${served.address.replace('127.0.0.1', 'localhost')}/disk?${served.parameters}`
    })

    test('nbdinfo sees the disk, encrypted, and maps it', async () => {
      const info = JSON.parse(await runOk('nbdinfo', ['--json', uri]))
      expect(info).toMatchObject({ TLS: true, structured: true, exports: [{ 'export-size': SIZE_BYTES }] })
      await runOk('nbdinfo', ['--map', uri])
      expect(JSON.parse(await runOk('nbdinfo', ['--list', '--json', uri])).exports).toHaveLength(1)
    })

    test('nbdcopy copies the disk out, over several connections', async () => {
      const out = join(served.folder, 'out.raw')
      await runOk('nbdcopy', ['--connections=4', uri, out])
      expect(await hashFile(out)).toBe(await hashFile(served.image))
    })

    test('nbdsh writes, flushes and reads back', async () => {
      const lines = [
        'h.set_uri_allow_local_file(True)',
        `h.connect_uri("${uri}")`,
        'assert h.get_tls_negotiated()',
        'h.pwrite(b"x" * 1048576, 512, nbd.CMD_FLAG_FUA)',
        'h.flush()',
        'assert h.pread(1048576, 512) == b"x" * 1048576'
      ]
      await nbdsh(['-c', lines.join('\n')])
    })

    test('qemu-img and qemu-io write, read and copy', async () => {
      const [host, port] = ['localhost', served.address.split(':')[1]]
      const image = `driver=raw,file.driver=nbd,file.host=${host},file.port=${port},file.export=disk,file.tls-creds=tls0`
      const object = ['--object', served.tlsObject]
      await runOk('qemu-io', [...object, '--image-opts', '-c', 'write -P 0xab 64k 64k', '-c', 'flush', image])
      const read = await runOk('qemu-io', [...object, '--image-opts', '-r', '-c', 'read -P 0xab 64k 64k', image])
      expect(read).not.toMatch(/fail|error/i)
      const out = join(served.folder, 'qemu.raw')
      await runOk('qemu-img', ['convert', ...object, '--image-opts', '-O', 'raw', image, out])
      await runOk('nbdcopy', [uri, join(served.folder, 'nbdcopy.raw')])
      expect(await hashFile(out)).toBe(await hashFile(join(served.folder, 'nbdcopy.raw')))
    })

    test('nobody gets in without TLS, or without the right identity', async () => {
      for (const refused of [
        `nbd://${served.address}/disk`,
        kind === 'psk'
          ? uri.replace('rowan@', 'mallory@')
          : `nbds://${served.address.replace('127.0.0.1', 'localhost')}/disk?tls-certificates=${join(served.folder, 'other')}`
      ]) {
        if (kind === 'certificates') {
          const other = await TestAuthority.make(await temporaryFolder().then(folder => join(folder, 'ca')))
          await other.issue(join(served.folder, 'other'), 'client')
          // It trusts this server; the server does not know it.
          await copyFile(join(served.folder, 'client', 'ca-cert.pem'), join(served.folder, 'other', 'ca-cert.pem'))
        }
        expect((await run('nbdinfo', [refused])).status, refused).not.toBe(0)
      }
      await runOk('nbdinfo', [uri])
    })

    test('a server with an identity that the client does not trust is not talked to', async () => {
      if (kind === 'psk') {
        const other = join(served.folder, 'other.psk')
        await writeFile(other, `rowan:${'00'.repeat(32)}\n`, { mode: 0o600 })
        expect((await run('nbdinfo', [uri.replace(/tls-psk-file=.*/, `tls-psk-file=${other}`)])).status).not.toBe(0)
      } else {
        const other = join(served.folder, 'stranger')
        const authority = await TestAuthority.make(join(served.folder, 'stranger-ca'))
        await authority.issue(other, 'client')
        expect(
          (await run('nbdinfo', [uri.replace(/tls-certificates=.*/, `tls-certificates=${other}`)])).status
        ).not.toBe(0)
      }
    })
  })
}
