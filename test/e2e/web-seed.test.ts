/**
 * A machine whose image is on a web server and nowhere else, through the command line: publish, export, and a volunteer whose
 * publisher has died.
 */
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { removeFolders, temporaryFolder } from '../tools/folders.ts'
import { needTools } from '../tools/need.ts'
import { errorCode, Peer } from '../tools/peers.ts'
import { endProcesses, runOk } from '../tools/processes.ts'
import { makeTinyAppliance } from '../tools/tiny-appliance.ts'
import { WebServer } from '../tools/web-server.ts'

afterAll(async () => {
  await endProcesses()
  await removeFolders()
})

needTools(['nbdcopy', 'cmp'])('a web seed', () => {
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
})
