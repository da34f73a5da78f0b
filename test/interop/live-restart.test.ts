/**
 * The server of a disk is killed under a client that goes on: QEMU's NBD client with `reconnect-delay`, as `rowan run`
 * sets it. The guest only waits, and everything that was acknowledged is there.
 */
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, expect, test } from 'vitest'
import { boot, DISK_TROUBLE } from '../tools/boot.ts'
import { removeFolders, temporaryFolder } from '../tools/folders.ts'
import { writeSampleImage } from '../tools/local-machine.ts'
import { describeWithTools } from '../tools/need.ts'
import { endProcesses, type RunningProcess, start } from '../tools/processes.ts'
import { makeTinyAppliance } from '../tools/tiny-appliance.ts'
import { waitUntil } from '../tools/wait.ts'

const SERVE = fileURLToPath(new URL('../tools/nbd-serve.ts', import.meta.url))
const MIB = 1024 * 1024
const KILLS = 4

afterEach(async () => {
  await endProcesses()
  await removeFolders()
})

/** Serves a machine whose image is a file, again and again on the same socket. */
function machineOf(image: string, socket: string) {
  let server: RunningProcess | undefined
  const serve = async () => {
    server = start(process.execPath, [SERVE, socket, `machine:disk=${image}`])
    await server.waitForOutput(/ready/)
  }
  const killAndServe = async () => {
    server!.kill('SIGKILL')
    await server!.exited
    await serve()
  }
  return {
    serve,
    killAndServe,
    get pid() {
      return server!.pid
    }
  }
}

describeWithTools('a killed server of a disk', ['qemu-storage-daemon', 'qemu-system-x86_64', 'fio'], () => {
  test('only pauses fio, and every byte that it was told is written is there', { timeout: 300_000 }, async () => {
    const folder = await temporaryFolder()
    const [image, socket, forClient] = ['image.raw', 'rowan', 'qemu'].map(name => join(folder, name)) as [
      string,
      string,
      string
    ]
    await writeSampleImage(image, 32 * MIB)
    const machine = machineOf(image, socket)
    await machine.serve()
    const between = start('qemu-storage-daemon', [
      '--blockdev',
      `driver=nbd,node-name=disk,server.type=unix,server.path=${socket},export=disk,reconnect-delay=120`,
      '--nbd-server',
      `addr.type=unix,addr.path=${forClient}`,
      '--export',
      'type=nbd,id=export,node-name=disk,name=disk,writable=on'
    ])
    await waitUntil('QEMU to listen', () => exists(forClient, between))
    const fio = start('fio', [
      '--name=restart',
      '--ioengine=nbd',
      `--uri=nbd+unix:///disk?socket=${forClient}`,
      '--rw=randwrite',
      '--bs=4k',
      '--iodepth=16',
      '--size=24m',
      '--loops=3',
      '--rate_iops=1500',
      '--fsync=64',
      '--verify=crc32c',
      '--do_verify=1',
      '--verify_fatal=1',
      '--verify_state_save=0',
      '--randrepeat=1'
    ])
    let kills = 0
    for (; kills < KILLS && fio.exit === undefined; kills++) {
      await new Promise(resolve => setTimeout(resolve, 1500))
      await machine.killAndServe()
    }
    expect(await fio.exited, fio.tail()).toEqual({ status: 0, signal: null })
    expect(kills).toBeGreaterThan(1)
    expect(fio.stdout).toMatch(/err= 0/)
  })

  test('only pauses a guest that boots, and one that writes', { timeout: 180_000 }, async () => {
    const folder = await temporaryFolder()
    const path = join(folder, 'tiny.raw')
    const socket = join(folder, 'rowan')
    await makeTinyAppliance(path, { sizeBytes: 64 * MIB, reads: 4000, writes: 400 })
    const machine = machineOf(path, socket)
    await machine.serve()
    const before = bytesReadBy(machine.pid)
    const guest = boot({ disk: `nbd+unix:///disk?socket=${socket}`, reconnectDelaySeconds: 120 })
    // More than a negotiation: it reads its disk.
    await waitUntil('the guest to boot', () => bytesReadBy(machine.pid) > before + 64 * 1024)
    expect(guest.console).not.toContain('APPLIANCE-READY')
    await machine.killAndServe()
    await guest.waitFor(/APPLIANCE-READY/, 90_000)
    await machine.killAndServe()
    await guest.waitFor(/APPLIANCE-WORK/, 90_000)
    expect(guest.console).not.toMatch(DISK_TROUBLE)
    expect(guest.console).not.toContain('DISK-MISMATCH')
    await guest.powerOff()
  })
})

function exists(path: string, owner: RunningProcess): boolean {
  if (owner.exit !== undefined) throw new Error(`${owner.name} left\n${owner.tail()}`)
  return existsSync(path)
}

/** Bytes that a process has read, from files and from sockets. */
function bytesReadBy(pid: number): number {
  return Number(/^rchar: (\d+)$/m.exec(readFileSync(`/proc/${pid}/io`, 'utf8'))?.[1])
}
