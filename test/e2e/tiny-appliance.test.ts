/**
 * The tiny appliance itself: what the other tests conclude from its console must be so.
 */
import { open } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, expect, test } from 'vitest'
import { boot, DISK_TROUBLE } from '../tools/boot.ts'
import { removeFolders, temporaryFolder } from '../tools/folders.ts'
import { endProcesses, start } from '../tools/processes.ts'
import { firstWriteSector, makeTinyAppliance, SECTOR_BYTES } from '../tools/tiny-appliance.ts'

afterEach(async () => {
  await endProcesses()
  await removeFolders()
})

test('boots, reads its data, writes its sectors and says so', async () => {
  const path = join(await temporaryFolder(), 'tiny.raw')
  await makeTinyAppliance(path, { version: 'v7', writes: 3 })
  const guest = boot({ disk: path })
  await guest.waitFor(/APPLIANCE-READY 0 v7 boot 00000001/, 20_000)
  await guest.waitFor(/W 00000002\s+APPLIANCE-WORK 00000003/, 20_000)
  expect(guest.console).not.toMatch(DISK_TROUBLE)
})

test('notices a sector that is not what was published', async () => {
  const path = join(await temporaryFolder(), 'tiny.raw')
  const { sizeBytes, reads } = await makeTinyAppliance(path)
  const file = await open(path, 'r+')
  await file.write(new Uint8Array(sizeBytes / 2 - 65_536), 0, sizeBytes / 2 - 65_536, 65_536)
  await file.close()
  expect(reads).toBeGreaterThan(0)
  const guest = boot({ disk: path })
  await guest.waitFor(/DISK-MISMATCH/, 20_000)
  expect(guest.console).not.toContain('APPLIANCE-READY')
})

test('keeps what it writes on an NBD disk, and counts its boots there', async () => {
  const folder = await temporaryFolder()
  const path = join(folder, 'tiny.raw')
  const { sizeBytes } = await makeTinyAppliance(path, { writes: 5 })
  const socket = join(folder, 'nbd.sock')
  start('qemu-nbd', ['--format=raw', `--socket=${socket}`, '--export-name=m', '--persistent', path])
  for (const count of [1, 2]) {
    const guest = boot({ disk: `nbd+unix:///m?socket=${socket}`, reconnectDelaySeconds: 5 })
    await guest.waitFor(new RegExp(`READY 0 v1 boot 0000000${count}`), 20_000)
    await guest.waitFor(/APPLIANCE-WORK/, 20_000)
    await guest.powerOff()
  }
  const file = await open(path, 'r')
  const sector = new Uint32Array(SECTOR_BYTES / 4)
  await file.read(sector, 0, SECTOR_BYTES, (firstWriteSector(sizeBytes) + 4) * SECTOR_BYTES)
  await file.close()
  expect([...new Set(sector)]).toEqual([4])
})

test('switches itself off when asked to', async () => {
  const path = join(await temporaryFolder(), 'tiny.raw')
  await makeTinyAppliance(path, { powerOff: true })
  const guest = boot({ disk: path })
  await guest.waitFor(/APPLIANCE-WORK/, 20_000)
  expect(await guest.process.exited).toEqual({ status: 0, signal: null })
})
