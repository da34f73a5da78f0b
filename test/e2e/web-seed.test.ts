/**
 * A machine whose image is on a web server and nowhere else, through the command line: publish, export, and a volunteer whose
 * publisher has died.
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { TestAuthority } from '../tools/certificates.ts'
import { removeFolders, temporaryFolder } from '../tools/folders.ts'
import { needTools } from '../tools/need.ts'
import { errorCode, Peer } from '../tools/peers.ts'
import { endProcesses, runOk } from '../tools/processes.ts'
import { makeTinyAppliance } from '../tools/tiny-appliance.ts'
import { waitUntil } from '../tools/wait.ts'
import { WebServer } from '../tools/web-server.ts'

afterAll(async () => {
  await endProcesses()
  await removeFolders()
})

needTools(['nbdcopy', 'cmp', 'openssl'])('a web seed', () => {
  test('serves all of an image once nobody else is left, and nothing before', async () => {
    const folder = await temporaryFolder()
    const image = join(folder, 'tiny.raw')
    await makeTinyAppliance(image, { powerOff: true })
    const web = join(folder, 'www')
    const publisher = await Peer.start()
    const server = await WebServer.start(web)
    try {
      const seed = ['--web-seed', server.url]
      await publisher.json(['publish', image, 'grid@v1', ...seed])
      const exported = (await publisher.ask(['export', '--web', 'grid@v1', web])) as { image: string; files: number }
      expect(exported.files).toBeGreaterThan(2)
      expect(errorCode(await publisher.run(['export', '--web', 'grid@v1', web]))).toBe('FILE_EXISTS')

      const volunteer = await Peer.start({ bootstrap: [publisher] })
      const { uri } = await volunteer.json(['attach', `${publisher.publisher}/grid`, '--as', 'm'])
      const partial = join(folder, 'not-complete')
      const refused = await volunteer.run(['export', '--web', `${publisher.publisher}/grid@v1`, partial])
      expect(errorCode(refused)).toBe('IMAGE_INCOMPLETE')
      expect(server.connections).toBe(0)

      await publisher.kill()
      const copy = join(folder, 'copy.raw')
      await runOk('nbdcopy', [uri, copy])
      await runOk('cmp', [image, copy])
      expect(server.packs.length).toBeGreaterThan(0)
      const { exchanging } = await volunteer.json(['status'])
      expect(exchanging.map(({ peer }) => peer)).toContain(`web:${server.url}`)
    } finally {
      await server.stop()
    }
  })

  test('over https is used by who trusts its certificate, and told nothing by who does not', async () => {
    const folder = await temporaryFolder()
    const image = join(folder, 'tiny.raw')
    await makeTinyAppliance(image, { powerOff: true })
    const authority = await TestAuthority.make(join(folder, 'ca'))
    const tls = join(folder, 'tls')
    await authority.issue(tls, 'server')
    const pem = (name: string) => readFileSync(join(tls, `${name}.pem`), 'utf8')
    const web = join(folder, 'www')
    const publisher = await Peer.start()
    const server = await WebServer.start(web, { cert: pem('server-cert'), key: pem('server-key') })
    try {
      expect(server.url).toMatch(/^https:/)
      await publisher.json(['publish', image, 'grid@v1', '--web-seed', server.url])
      await publisher.ask(['export', '--web', 'grid@v1', web])
      const stranger = await Peer.start({ bootstrap: [publisher] })
      const env = { NODE_EXTRA_CA_CERTS: join(tls, 'ca-cert.pem') }
      const volunteer = await Peer.start({ bootstrap: [publisher], env })
      const attach = ['attach', `${publisher.publisher}/grid`, '--as', 'm'] as ['attach', ...string[]]
      const [refused, served] = await Promise.all([stranger, volunteer].map(peer => peer.json(attach)))
      await publisher.kill()

      // Nobody is left but the server, which this one does not believe.
      const reading = runOk('nbdcopy', [refused!.uri, join(folder, 'none.raw')]).catch(() => undefined)
      await waitUntil('the certificate to be refused', () => server.refusedHandshakes > 0)
      expect(server.asked).toEqual([])
      await stranger.kill()
      await reading

      const copy = join(folder, 'copy.raw')
      await runOk('nbdcopy', [served!.uri, copy])
      await runOk('cmp', [image, copy])
      expect(server.packs.length).toBeGreaterThan(0)
    } finally {
      await server.stop()
    }
  })
})
